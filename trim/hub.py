"""The Hugging Face Hub: sizes of repositories, downloads, and their errors.

The token comes from the environment (HF_TOKEN), read by `huggingface_hub` alone: it is in no argument, file or
message of ours. Files are in the Hub's own cache, shared with every other program.
"""

import contextlib
import errno
import fnmatch
import io
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from trim.errors import TrimError
from trim.names import format_bytes
from trim.progress import Meter, ProgressListener

TIMEOUT_SECONDS = 10
_REPORT_EVERY_SECONDS = 0.5
_ID = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", re.ASCII)


@dataclass(frozen=True)
class Repository:
    """A repository on the Hub.

    Attributes:
        name: "org/name".
        error: the exception to raise when it cannot be downloaded.
        revision: a branch, tag, pull request ("refs/pr/1") or commit; None: the main branch.
        kind: "model" or "dataset".
    """

    name: str
    error: type[TrimError]
    revision: str | None = None
    kind: str = "model"

    @property
    def hub_arguments(self) -> dict[str, Any]:
        """Return the revision and the kind as keyword arguments of `huggingface_hub`."""
        return {"revision": self.revision, "repo_type": self.kind}

    @property
    def page(self) -> str:
        """Return the address of the repository's page."""
        return f"https://huggingface.co/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"


def parse_id(source: str) -> tuple[str, str | None] | None:
    """Return ("org/name", revision) of "org/name" or "org/name@revision"; None for anything else."""
    match = _ID.fullmatch(source)
    return (match[1], match[2]) if match else None


def downloaded_folder(
    repository: Repository, patterns: tuple[str, ...], is_complete: Callable[[Path], bool]
) -> Path | None:
    """Return the repository's folder in the Hub's cache; None where it is missing or incomplete. Needs no network.

    Args:
        repository: a model or a data set on the Hub.
        patterns: shell patterns of the files that are used.
        is_complete: returns whether a folder holds all needed files.
    """
    from huggingface_hub.errors import HFValidationError

    try:
        folder = _snapshot(repository, patterns, local_files_only=True)
    except (HFValidationError, OSError):  # among them LocalEntryNotFoundError
        return None
    return folder if is_complete(folder) else None


def _snapshot(repository: Repository, patterns: Iterable[str], **options: Any) -> Path:
    """Return the repository's folder in the Hub's cache, with matching files; options as for `snapshot_download`."""
    from huggingface_hub import snapshot_download

    arguments = {**repository.hub_arguments, "allow_patterns": list(patterns), **options}
    return Path(snapshot_download(repository.name, **arguments))


def list_sizes(repository: Repository) -> dict[str, int]:
    """Request the sizes of the repository's files from the Hub: bytes by path.

    Raises:
        TrimError: the repository is unknown, gated or unreachable; the repository's kind has its own class.
    """
    from huggingface_hub import HfApi

    with hub_errors(repository):
        api = HfApi()
        request = api.dataset_info if repository.kind == "dataset" else api.model_info
        info = request(
            repository.name,
            revision=repository.revision,
            files_metadata=True,
            timeout=TIMEOUT_SECONDS,
        )
    return {file.rfilename: file.size or 0 for file in info.siblings or []}


def select(sizes: dict[str, int], patterns: tuple[str, ...]) -> dict[str, int]:
    """Return the files that match any of the patterns."""
    return {
        name: size
        for name, size in sizes.items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }


def download(
    repository: Repository, patterns: tuple[str, ...], size_bytes: int, progress: ProgressListener | None
) -> Path:
    """Fetch the files that match the patterns into the Hub's cache, and return the folder they are in.

    Args:
        repository: a model or a data set on the Hub.
        patterns: shell patterns of the files that are used.
        size_bytes: their total size.
        progress: called during the download.

    Raises:
        TrimError: the repository is unknown, gated or unreachable, or the disk is full.
    """
    bar = _progress_class(repository.name, size_bytes, progress)
    with hub_errors(repository):
        return _snapshot(repository, patterns, etag_timeout=TIMEOUT_SECONDS, tqdm_class=bar)


def fetch_file(repository: Repository, file: str, progress: ProgressListener | None = None) -> Path:
    """Fetch one file of the repository, or find it in the Hub's cache. Lists no other files: C4 has 100,000.

    Raises:
        TrimError: the repository is unknown, gated or unreachable, or the disk is full.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import LocalEntryNotFoundError

    name, where = repository.name, repository.hub_arguments
    with hub_errors(repository):
        with contextlib.suppress(LocalEntryNotFoundError):
            return Path(hf_hub_download(name, file, **where, local_files_only=True))
        # hf_hub_download retries for half a minute without a network; requesting the file's metadata first does not.
        about = get_hf_file_metadata(hf_hub_url(name, file, **where), timeout=TIMEOUT_SECONDS)
        bar = _progress_class(f"{file} of {name}", about.size or 0, progress)
        return Path(hf_hub_download(name, file, **where, etag_timeout=TIMEOUT_SECONDS, tqdm_class=bar))


def _progress_class(name: str, size_bytes: int, progress: ProgressListener | None) -> type:
    """Return a progress bar for `huggingface_hub` that reports the downloaded bytes instead of drawing itself."""
    from tqdm.auto import tqdm

    meter = Meter(progress, of=size_bytes)
    meter.report(f"Downloading {name}: {format_bytes(size_bytes)}")

    class ReportedProgress(tqdm):
        last_report: ClassVar[float] = 0.0

        def __init__(self, *arguments: object, **settings: object) -> None:
            super().__init__(*arguments, **{**settings, "file": io.StringIO()})

        def display(self, *_: object, **__: object) -> None:
            now = time.monotonic()
            if self.unit == "B" and self.n and now - ReportedProgress.last_report > _REPORT_EVERY_SECONDS:
                ReportedProgress.last_report = now
                meter.report(
                    f"Downloading {name}: {format_bytes(self.n)} of {format_bytes(size_bytes)}", self.n
                )

    return ReportedProgress


@contextlib.contextmanager
def hub_errors(repository: Repository) -> Iterator[None]:
    """Turn every error of a connection to the Hub into the repository's own error, with advice."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise repository.error(
            f"{repository.name} is gated: accept its licence on {repository.page}, then set the environment variable "
            "HF_TOKEN to a token of that account and try again"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise repository.error(
            f"the Hub knows no {repository.kind} {repository.name!r}, or it is private: check the spelling on "
            f"{repository.page}, and for a private one set the environment variable HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise repository.error(
            f"{repository.name} has no revision {repository.revision!r}; its branches, tags and commits are listed on "
            f"{repository.page}/commits"
        ) from error
    except errors.HFValidationError as error:
        raise repository.error(
            f"{repository.name!r} cannot be the name of a repository on the Hub; they look like org/name"
        ) from error
    except errors.RemoteEntryNotFoundError as error:
        raise repository.error(
            f"{repository.name} lacks a file that TRIM Lab needs; its files are listed on {repository.page}"
        ) from error
    except errors.HfHubHTTPError as error:
        raise repository.error(_status_message(repository, error.response.status_code)) from error
    except (errors.HTTPError, errors.EntryNotFoundError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"the disk is full, so {repository.name} is not downloaded; make room, or set HF_HOME elsewhere"
        else:
            message = (
                f"the Hub cannot be reached, and {repository.name} is not complete in its cache on this machine; check "
                "the network (and that HF_HUB_OFFLINE is not set), or use the demo or a local file or folder"
            )
        raise repository.error(message) from error


def _status_message(repository: Repository, status: int) -> str:
    if status in (401, 403):
        return (
            f"the Hub refuses access to {repository.name} (status {status}); set the environment variable HF_TOKEN "
            f"to a token that may read {repository.page}"
        )
    if status == 429:
        return "the Hub has had too many requests from here; wait some minutes, or set HF_TOKEN in the environment"
    return f"the Hub answers with status {status} for {repository.name}; try again in some minutes"
