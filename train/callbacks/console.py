"""The progress bar: step, loss, learning rate, gradient norm, loss scale, held-out figure, speed, MFU, time left."""

from contextlib import ExitStack

from mindgeex.common.progress import Bar, progress
from mindgeex.train.callbacks.base import Callback, StepRecord


class Console(Callback):
    """Shows the run on standard error."""

    def __init__(self, total_steps: int):
        self.total_steps = total_steps
        self.stack = ExitStack()
        self.bar: Bar | None = None
        self.heldout = ""

    def begin(self, record: StepRecord) -> None:
        """Opens the bar where the run stands."""
        self.bar = self.stack.enter_context(progress("train", self.total_steps, done=record.step))
        self._remember_heldout(record)

    def after_step(self, record: StepRecord) -> None:
        """Moves the bar on."""
        self._remember_heldout(record)
        values = record.values
        scale = f"  scale {values['loss_scale']:g}" if "loss_scale" in values else ""
        note = (
            f"loss {values['loss']:.3f}  norm {values['grad_norm']:.2f}  lr {values['learning_rate']:.2e}{scale}"
            f"{self.heldout}  {values['tokens_per_s']:,.0f} tokens/s  MFU {values['mfu']:.0%}"
        )
        if self.bar is not None:
            self.bar.advance(1, note)

    def rewind(self, record: StepRecord) -> None:
        """Moves the bar back."""
        if self.bar is not None:
            self.bar.advance(record.step - self.bar.done)

    def end(self) -> None:
        """Closes the bar."""
        self.stack.close()

    def _remember_heldout(self, record: StepRecord) -> None:
        if "heldout_bits_per_byte" in record.values:
            self.heldout = f"  held-out {record.values['heldout_bits_per_byte']:.3f} bits/byte"
        elif losses := record.values.get("heldout_loss"):
            self.heldout = "  held-out " + " ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
