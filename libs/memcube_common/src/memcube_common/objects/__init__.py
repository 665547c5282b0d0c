"""The object store: payloads too large for a row, in a folder or an S3-compatible bucket, checked on every read."""

from memcube_common.objects.domain import BLOCK, PAYLOAD_MAX, ROW_MAX, Arrived, Arriving, new_key, object_path
from memcube_common.objects.settings import ObjectSettings
from memcube_common.objects.store import Incoming, Objects, ObjectStore, open_objects

__all__ = [
    "BLOCK",
    "PAYLOAD_MAX",
    "ROW_MAX",
    "Arrived",
    "Arriving",
    "Incoming",
    "ObjectSettings",
    "ObjectStore",
    "Objects",
    "new_key",
    "object_path",
    "open_objects",
]
