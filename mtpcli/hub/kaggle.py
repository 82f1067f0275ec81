"""Checkpoints from Kaggle, through kagglehub: it resumes, and checks the sums that Kaggle sends."""

from __future__ import annotations

from pathlib import Path

from mtpcli.errors import InputError, UsageError
from mtpcli.hub.names import KAGGLE


def download(repository: str, folder: Path) -> None:
    """Get a checkpoint's files into `folder`.

    Raises:
        UsageError: kagglehub is not installed.
        InputError: the checkpoint cannot be had, or holds what a checkpoint should not.
    """
    try:
        import kagglehub
    except ImportError:
        raise UsageError(
            f"{repository} needs kagglehub: `pip install 'mtpcli[kaggle]'`, or "
            "`pip install kagglehub`"
        ) from None
    handle = repository.removeprefix(KAGGLE)
    page = f"https://www.kaggle.com/models/{'/'.join(handle.split('/')[:2])}"
    try:
        kagglehub.model_download(handle, output_dir=str(folder))
    except Exception as error:  # requests', kagglehub's and kagglesdk's own, of every kind
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403) or type(error).__name__ in ("UnauthenticatedError",):
            raise InputError(
                f"no access to {repository}: accept its licence at {page}, and log in with "
                "`kagglehub.login()` or set KAGGLE_API_TOKEN"
            ) from None
        if status == 404:
            raise InputError(f"there is no {repository}: see {page}/variations") from None
        what = f"Kaggle answers {status}" if status else type(error).__name__
        raise InputError(f"cannot get {repository}: {what}; pull again later") from None
    if links := [path for path in folder.rglob("*") if path.is_symlink()]:
        for link in links:
            link.unlink()
        raise InputError(f"{repository} holds links, which a checkpoint does not need: refused")
