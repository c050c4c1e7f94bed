"""What can be known of a whole path before anything runs: parts that are right alone and do not go together."""

from . import params, spec


def faults(specs: dict[str, str]) -> list[str]:
    """A line for each pair of specs that cannot go together; specs by group, as many as a path has."""
    if not {"transfer", "balance", "student"} <= specs.keys():
        return []
    transfer, balance, student = (params.load(group, specs[group]) for group in ("transfer", "balance", "student"))
    lines, where = [], f"student {specs['student']!r} on transfer {specs['transfer']!r}"
    inside = getattr(transfer, "student", None)
    if student.init == "transfer" and inside != student.arch:
        have = f"trains a {inside}" if inside else "trains no student"
        lines.append(
            f"{where}: init: transfer starts from a {student.arch}, but the method of this set {have}; "
            f"{_remedy(specs, student, inside)}"
        )
    if student.sampling == "given" and balance.mode != "weight":
        lines.append(
            f"{where}: sampling: given needs weights, which balance {specs['balance']!r} does not provide; use balance weight"
        )
    return lines


def _remedy(specs, student, inside) -> str:
    if not inside:
        return "set init: random, or use a method that trains a student (dafl, fast, ...)"
    parsed = spec.parse("transfer", specs["transfer"])
    overrides = sorted([*parsed.without("student").overrides, ("student", student.arch)])
    return f"write {spec.Spec('transfer', parsed.name, tuple(overrides))}, or set init: random"
