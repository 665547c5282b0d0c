"""Half a bucket is refused where it is set up, by the name of what is missing."""

from __future__ import annotations

import pytest
from pydantic import SecretStr, ValidationError

from memcube_common.objects import ObjectSettings


def settings(**given: object) -> ObjectSettings:
    """A room's settings, about its objects."""
    servers: dict[str, object] = {"postgres_dsn": SecretStr("postgresql://x"), "nats_url": SecretStr("nats://x")}
    return ObjectSettings.model_validate(servers | given)


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"s3_bucket": "bucket", "s3_access_key": "k"}, "S3_SECRET_KEY"),
        ({"s3_bucket": "bucket", "s3_secret_key": "k"}, "S3_ACCESS_KEY"),
        ({"s3_access_key": "k", "s3_secret_key": "s"}, "S3_BUCKET"),
        ({"s3_endpoint": "http://127.0.0.1:9000"}, "S3_BUCKET"),
        ({"s3_bucket": "bucket", "s3_endpoint": "127.0.0.1:9000"}, "s3_endpoint"),
        ({"s3_bucket": "b/c"}, "s3_bucket"),
    ],
)
def test_half_a_bucket_is_refused(given: dict[str, object], missing: str) -> None:
    with pytest.raises(ValidationError, match=missing):
        settings(**given)


def test_without_a_bucket_there_is_a_folder_and_a_bucket_may_do_without_keys() -> None:
    assert settings().s3_bucket is None
    assert settings(s3_bucket="bucket").s3_access_key is None
