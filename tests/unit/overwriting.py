"""A stand-in for CUDA graphs on a CPU: what compiled calls returned is overwritten with NaN once a later step begins.

As in torch/_inductor/cudagraph_trees.py, seen from outside: a call belongs to a generation, which ``cudagraph_mark_step_begin``
begins, or each compilation where there are no marks; outputs of an earlier generation that are still held are overwritten,
unless a backward pass is still to come and nothing is marked. ``depth``: calls in a row whose outputs were held, each of which
would be a graph of its own.
"""

import torch
from functorch.compile import make_boxed_func
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.mutation_guard import GenerationTracker
from torch.multiprocessing.reductions import StorageWeakRef

VIEWS = (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default)


class Overwriting:
    """Compiles every network for it while a test runs."""

    def __init__(self, monkeypatch):
        self.marks, self.depth, self.deepest = 0, 0, 0
        self.generation, self.backward_pending, self.outputs = None, False, []
        kinds = {"fw_compiler": "forward", "bw_compiler": "backward", "inference_compiler": "inference"}
        backend = aot_autograd(**{name: self._compiler(kind) for name, kind in kinds.items()})
        self.how, call = [], nn.Module.compile  # how each network was to be compiled

        def compile_network(net, **how):
            self.how.append(how)
            by_graphs = how.get("mode") == "reduce-overhead"
            call(net, backend=(lambda *graph, **_: backend(*graph)) if by_graphs else "eager", dynamic=how.get("dynamic"))

        monkeypatch.setattr(nn.Module, "compile", compile_network)
        monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", self._mark)

    def _mark(self):
        self.marks += 1

    def _begin(self):
        generation = ("marked", self.marks) if self.marks else ("compiled", GenerationTracker.generation)
        later = self.generation not in (None, generation) and (self.marks or not self.backward_pending)
        if later:
            for reference, like in self.outputs:
                self._overwrite(reference, like)
        if later or all(reference.expired() for reference, _ in self.outputs):
            self.outputs, self.depth = [], 0
        self.depth += 1
        self.deepest = max(self.deepest, self.depth)
        self.generation = generation

    @staticmethod
    def _overwrite(reference, like):
        dtype, *where = like
        if dtype.is_floating_point and not reference.expired():
            storage = torch.UntypedStorage._new_with_weak_ptr(reference.cdata)
            torch.empty(0, dtype=dtype).set_(storage, *where).fill_(float("nan"))

    def _compiler(self, kind):
        def compiled(module, _):
            for node in module.graph.nodes:
                if node.target in VIEWS:  # which a compiler would lay out
                    node.target = torch.ops.aten.reshape.default
            module.recompile()

            def run(*given):
                self._begin()
                known = {one.untyped_storage()._cdata for one in given if isinstance(one, torch.Tensor)}
                returned = module(*given)
                for one in returned:
                    if isinstance(one, torch.Tensor) and one.numel() and one.untyped_storage()._cdata not in known:
                        like = one.dtype, one.storage_offset(), one.size(), one.stride()
                        self.outputs.append((StorageWeakRef(one.untyped_storage()), like))
                self.backward_pending = {"forward": True, "backward": False}.get(kind, self.backward_pending)
                return returned

            return make_boxed_func(run)

        return compiled
