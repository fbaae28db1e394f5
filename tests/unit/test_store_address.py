"""TALLYMESH_STORE_URL: what it says, and what is told when it says nothing that can be used."""

from pathlib import Path

import pytest

from tallymesh_core.config.settings import BadSettings, StoreSettings
from tallymesh_core.config.store_address import (
    BadAddress,
    Kind,
    Login,
    Place,
    StoreAddress,
    parse_address,
)

TWO = (Place("a.example", 6379), Place("10.0.0.2", 7000))


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://localhost", StoreAddress(Kind.SERVER, (Place("localhost", 6379),))),
        ("redis://[::1]:7000/3", StoreAddress(Kind.SERVER, (Place("::1", 7000),), db=3)),
        (
            "redis://:s%2Fcret%40@h:1/",
            StoreAddress(Kind.SERVER, (Place("h", 1),), Login("", "s/cret@")),
        ),
        (
            "rediss://me:secret@h?ssl_cert_reqs=none&ssl_check_hostname=false",
            StoreAddress(
                Kind.SERVER,
                (Place("h", 6379),),
                Login("me", "secret"),
                tls={"ssl_cert_reqs": "none", "ssl_check_hostname": False},
            ),
        ),
        ("unix:///run/v.sock?db=2", StoreAddress(Kind.SERVER, (Place("/run/v.sock", 0),), db=2)),
        (
            "unix://:secret@/run/v.sock",
            StoreAddress(Kind.SERVER, (Place("/run/v.sock", 0),), Login("", "secret")),
        ),
        (
            "redis+sentinel://me:secret@a.example,b.example:7000/tally/2"
            "?sentinel_username=guard&sentinel_password=h%20us",
            StoreAddress(
                Kind.SENTINEL,
                (Place("a.example", 26379), Place("b.example", 7000)),
                Login("me", "secret"),
                db=2,
                service="tally",
                sentinel_login=Login("guard", "h us"),
            ),
        ),
        ("redis+cluster://a.example,10.0.0.2:7000", StoreAddress(Kind.CLUSTER, TWO)),
        ("rediss+cluster://a.example,10.0.0.2:7000", StoreAddress(Kind.CLUSTER, TWO, tls={})),
    ],
)
def test_what_a_url_says(url: str, address: StoreAddress) -> None:
    assert parse_address(url) == address


def test_files_of_tls_are_there(tmp_path: Path) -> None:
    authority = tmp_path / "ca.crt"
    with pytest.raises(BadAddress, match="ssl_ca_certs names no file"):
        parse_address(f"rediss://h?ssl_ca_certs={authority}")
    authority.touch()
    assert parse_address(f"rediss://h?ssl_ca_certs={authority}").tls == {
        "ssl_ca_certs": str(authority)
    }


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://h", r"must be redis://host:port/db"),
        ("redis+both://h", r"must be redis://host:port/db"),
        ("localhost:6379", r"must be redis://host:port/db"),
        ("redis://[::1", r"must be redis://host:port/db"),
        ("redis://h:99999", "not a number from 1 to 65535"),
        ("redis://h:0", "not a number from 1 to 65535"),
        ("redis:///0", "host is missing"),
        ("redis://h/x", "database is not a number"),
        ("redis://h?nonsense=1", r"an option that redis:// does not know; there are none"),
        ("redis://h?ssl_ca_certs=/x", r"an option that redis:// does not know"),
        ("rediss://h?nonsense=1", "there are ssl_ca_certs, ssl_certfile"),
        ("rediss://h?ssl_cert_reqs=some", "required, optional, none"),
        ("redis://a,b", "several hosts"),
        ("unix://host/path", "whole path"),
        ("unix:///", "whole path"),
        ("redis+sentinel://h", "names no service"),
        ("redis+cluster://h/1", "no databases"),
        ("redis://:se cret@h", "blank"),
        ("redis://:secret#1@h", "blank or a #"),
        ("redis://:secret/1@h", "host is missing"),
        ("redis://me:secret/1@h", "host is missing"),
        ("redis://:secret?1@h", "host is missing|option"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_without_the_password(url: str, said: str) -> None:
    with pytest.raises(BadSettings, match=said) as raised:
        StoreSettings.load(store_url=url)
    line = str(raised.value)
    assert line.startswith("TALLYMESH_STORE_URL: ")
    assert "\n" not in line
    assert "secret" not in line


def test_a_password_is_shown_nowhere() -> None:
    address = parse_address("redis+sentinel://:secret@h/tally?sentinel_password=secret")
    assert "secret" not in repr(address)
