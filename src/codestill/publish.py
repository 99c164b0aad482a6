"""A student on a model hub: its weights, its card, and artefacts that were proved. Never by itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codestill.errors import PublishError, RunError
from codestill.export.exporter import ARTEFACTS, REFUSED
from codestill.report.card import write_card


def push(
    directory: Path, repo: str, *, licence: str = "", private: bool = False, artefacts: Path | None = None
) -> str:
    """Upload a run's student with its card to ``repo`` (``owner/name``), and the artefacts of an export that
    hold; returns the address.

    The hub is the one that ``HF_ENDPOINT`` names, the token that of ``hf auth login`` or ``HF_TOKEN``. Raises
    RunError for a run without a student or an export without artefacts, PublishError where the hub refuses.
    """
    from huggingface_hub import HfApi

    if artefacts is not None and not (artefacts / ARTEFACTS).is_dir():
        raise RunError(
            f"{artefacts} has no artefacts.", next_step="Give the directory of a finished `codestill export`."
        )
    card = write_card(directory, licence, repo.rpartition("/")[2])
    hub = HfApi()
    with _told(repo):
        address = hub.create_repo(repo, private=private, exist_ok=True)
        hub.upload_folder(repo_id=repo, folder_path=card.parent, commit_message="A student and its card")
        if artefacts is not None:
            hub.upload_folder(
                repo_id=repo,
                folder_path=artefacts / ARTEFACTS,
                ignore_patterns=[f"{REFUSED}/*"],
                commit_message="Artefacts that were compared with the student",
            )
    return str(address)


@contextmanager
def _told(repo: str) -> Iterator[None]:
    """Raises PublishError where the hub cannot be reached, or refuses."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
    )

    try:
        yield
    except HFValidationError as error:
        raise PublishError(f"{repo!r} is no name on the hub.", next_step="Give owner/name.") from error
    except LocalTokenNotFoundError as error:
        raise PublishError(
            "the hub is not told who you are.", next_step="hf auth login, or set HF_TOKEN."
        ) from error
    except OfflineModeIsEnabled as error:
        raise PublishError("HF_HUB_OFFLINE is set.", next_step="Unset it to upload.") from error
    except HfHubHTTPError as error:
        said = str(error).splitlines()[0]
        raise PublishError(
            f"the hub refuses {repo}: {said}",
            next_step="See that the token may write there; nothing is lost, the same command goes on.",
        ) from error
    except Exception as error:  # of an HTTP library that depends on the version
        raise PublishError(
            f"the hub does not answer: {error}.", next_step="The same command goes on where it was."
        ) from error
