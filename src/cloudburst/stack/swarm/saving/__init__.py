"""Back-up of a stack on a swarm into a folder of this machine, and restoring it from there.

::

    DIR/manifest.json     what belongs together: written last, in one step, so it is whole or the one before
    DIR/objects/<sha256>  the contents of everything: the queue, each file of the file store, volumes, secrets

A further back-up into the same folder fetches only files that are not there yet, and removes in the end what
the new manifest does not name.
"""

from __future__ import annotations

from cloudburst.stack.swarm.saving.backup import backup
from cloudburst.stack.swarm.saving.folder import Folder
from cloudburst.stack.swarm.saving.restore import restore
from cloudburst.stack.swarm.saving.site import opened

__all__ = ["Folder", "backup", "opened", "restore"]
