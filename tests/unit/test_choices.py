"""The names that configs allow are those that the code has, which needs torch and so says them once more."""

from dfkd_steps.methods.engines import schedules
from dfkd_steps.schemas import choices, fields, groups
from dfkd_steps.schemas.transfer.options import schedules as schedule_options
from dfkd_steps.training import views


def choices_of(field: str):
    return fields.choices(groups.Student.__dataclass_fields__[field])


def test_views():
    assert tuple(views.VIEWS) == choices.VIEWS
    assert set(choices.REPEATABLE) < set(choices.VIEWS)


def test_what_a_student_sees():
    assert set(choices_of("augment")) <= set(views.VIEWS) and choices_of("mix") == tuple(views.MIXES)


def test_schedules():
    assert tuple(schedules.SCHEDULES) == schedule_options.NAMES
