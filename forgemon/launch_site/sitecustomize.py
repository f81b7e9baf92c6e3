# Runs in every Python started under `forgemon run`, of any version: leaves sys.path as it would be without us, waits for
# torch, and hands over to the sitecustomize that would have run instead. Bound names would be the user's module's own.
import sys

try:
    if sys.version_info >= (3, 10):  # noqa: UP036  whatever Python the command uses, not ours
        import _forgemon_launch  # type: ignore[import-not-found]  # beside this file, on sys.path

        _forgemon_launch.prepare()
except Exception as error:
    # The user's program goes on unwatched; without _forgemon_launch there is nobody to write it down either.
    _ = error
finally:
    import os

    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if not entry or os.path.abspath(entry) != here]
    sys.path_importer_cache.pop(here, None)
    sys.modules.pop("_forgemon_launch", None)
    sys.modules.pop("sitecustomize", None)

# Whatever this raises is what Python would have met without us, ImportError included: site treats it the same way.
__import__("sitecustomize")
