"""What budget methods measure of a model, kept between runs: it does not depend on the target."""

import contextlib
import hashlib
import json
import math
from collections.abc import Callable

from trim.cache import cache_folder, fingerprint, new_file, touch
from trim.calibration.inputs import Calibration
from trim.models.tensor_files import TensorFiles


def weights_key(files: TensorFiles) -> dict:
    """What changes whenever the weights of a model may have changed, as plain JSON."""
    return {
        "fingerprint": files.fingerprint(),
        "files": [[path.stat().st_size, path.stat().st_mtime_ns] for path in files.files],
    }


def text_key(calibration: Calibration) -> str:
    """The sha256 of a calibration text's tokens and mask."""
    digest = hashlib.sha256(calibration.tokens.numpy().tobytes())
    if calibration.mask is not None:
        digest.update(calibration.mask.numpy().tobytes())
    return digest.hexdigest()


def remembered(key: dict, measure: Callable[[], list[float]]) -> list[float]:
    """Numbers that were measured before under this key, or are measured now; NaN is a number here.

    Where the cache cannot be read or written, they are measured again each time.

    Args:
        key: everything that they depend on, as plain JSON.
        measure: does the work.
    """
    path = cache_folder() / "budgets" / f"{fingerprint(key)}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        known = [math.nan if value is None else float(value) for value in json.loads(path.read_text("utf-8"))]
        touch(path)
        return known
    measured = measure()
    plain = [None if math.isnan(value) else value for value in measured]
    with contextlib.suppress(OSError), new_file(path) as temporary:
        temporary.write_text(json.dumps(plain), encoding="utf-8")
    return measured
