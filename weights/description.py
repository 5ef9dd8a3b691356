"""What a file of this project says of itself: a JSON object under the key "tinyfcn"."""
import json

from tinyfcn.weights.errors import weights_error

KEY = "tinyfcn"
FORMAT = 1
MAX_BYTES = 1 << 20


def to_text(path, about):
    """Turn a description into text; raises WeightsError if JSON cannot hold it."""
    try:
        text = json.dumps({"format": FORMAT, **about}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise weights_error(
            path, f"cannot be written: the description is not JSON ({error})") from error
    if len(text) > MAX_BYTES:
        raise weights_error(
            path, f"cannot be written: the description has more than {MAX_BYTES} bytes")
    return text


def from_text(path, text):
    """Turn text (str or bytes) out of a file into a description, or raise WeightsError."""
    if len(text) > MAX_BYTES:
        raise weights_error(path, f"the attribute {KEY!r} is too long")
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        about = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise weights_error(
            path, f"the attribute {KEY!r} is not JSON ({str(error)[:160]})") from error
    if not isinstance(about, dict):
        raise weights_error(path, f"the attribute {KEY!r} is not a JSON object")
    version = about.get("format")
    if version != FORMAT or isinstance(version, bool):
        raise weights_error(path, f"is of format {json.dumps(version)[:40]}; format {FORMAT} is "
                                  "read here")
    return about


def _refuse_constant(name):
    raise ValueError(f"{name} is not JSON")
