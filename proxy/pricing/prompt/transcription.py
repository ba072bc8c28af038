"""POST /audio/transcriptions and /audio/translations: a recording in a form, by its length."""

from decimal import Decimal

from proxy.pricing.prompt.content import AUDIO, AUDIO_BYTES
from proxy.pricing.prompt.form import File, Form
from proxy.pricing.prompt.prompt import Prompt
from proxy.pricing.prompt.sound import ENDLESS, milliseconds
from proxy.pricing.prompt.tally import Tally
from proxy.pricing.values import Model


def transcription(form: Form, known: Model | None) -> Prompt:
    """The recording, as its header tells its length or else as long as its bytes can be, and the prompt."""
    tally = Tally(form.fields, known)
    tally.text(form.fields.get("prompt"))
    lengths = [_length(file) for file in form.files]
    known_ones = [length for length in lengths if length is not None]
    tally.fixed += sum(-(-length // AUDIO) for length in known_ones)
    told = known_ones and len(known_ones) == len(lengths)
    units = {"seconds": Decimal(sum(known_ones)) / 1000} if told else {}
    return tally.prompt("transcription", form.fields, output=None, units=units)


def _length(file: File) -> int | None:
    """In milliseconds; None of a file that neither tells its length nor has a known size."""
    told = milliseconds(file.read, ENDLESS if file.size is None else file.size)
    if told is None and file.size is not None:
        return (file.size // AUDIO_BYTES + 1) * AUDIO
    return told
