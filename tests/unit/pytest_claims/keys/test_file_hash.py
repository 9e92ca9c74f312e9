import hashlib

from pytest_claims.keys.file_hash import file_hash


def test_is_the_sha256_of_the_bytes(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"\r\nabc" * 100_000)
    assert file_hash(path) == hashlib.sha256(path.read_bytes()).hexdigest()
