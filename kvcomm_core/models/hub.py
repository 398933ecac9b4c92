"""Download of single files from the Hugging Face Hub, with an answer within seconds when there is no network.

The Hub client retries an unreachable host for half a minute and prints each try. This module tries the host once.
"""

import socket
from pathlib import Path
from urllib.parse import urlsplit

CONNECT_TIMEOUT_S = 5.0


class HubError(Exception):
    """A file is not available from the Hub; the message is one line."""


def fetch(repo_id: str, filename: str, *, dataset: bool = False, revision: str | None = None) -> Path:
    """Return the local path of a file of a Hub repository, from the cache if it is there, else downloaded into it.

    Raise ``HubError`` if it is not cached and the Hub is out of reach, switched off (``HF_HUB_OFFLINE``) or refuses.
    """
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repo_type = "dataset" if dataset else "model"
    try:
        cached = try_to_load_from_cache(repo_id, filename, revision=revision, repo_type=repo_type)
    except HFValidationError as error:
        raise HubError(str(error).strip().splitlines()[0]) from None
    if isinstance(cached, str):
        return Path(cached)
    if constants.HF_HUB_OFFLINE:
        at = f" at {revision}" if revision else ""
        raise HubError(f"{repo_id}/{filename}{at} is not in the Hub cache, and HF_HUB_OFFLINE is set")
    url = urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((url.hostname, url.port or 443), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise HubError(f"{url.hostname} is out of reach ({error})") from None
    try:
        return Path(hf_hub_download(repo_id, filename, revision=revision, repo_type=repo_type))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise HubError(str(error).strip().splitlines()[0]) from None
