"""A cell around another one, for users' cells of two methods: what is not said anew is the other's."""

import equinox as eqx

from limjax.physics import AbstractCell


class CellAround(AbstractCell):
    """Numbers of `cell`; a final subclass has that field and the response."""

    cell: eqx.AbstractVar[AbstractCell]

    lsb = property(lambda self: self.cell.lsb)
    attempt_rate = property(lambda self: self.cell.attempt_rate)
    step_time = property(lambda self: self.cell.step_time)
    temperature = property(lambda self: self.cell.temperature)
    recovery = property(lambda self: self.cell.recovery)
    min_barrier = property(lambda self: self.cell.min_barrier)
    max_barrier = property(lambda self: self.cell.max_barrier)
    levels = property(lambda self: self.cell.levels)
