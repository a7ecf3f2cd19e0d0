"""The webhooks' certificates over their lives: at every moment what is shown is believed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from spiderpool.controller.webhooks.authority import NEXT, SERVER, SIGNING, TRUSTED, Terms, renewed

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
HOST = "spiderpool-controller.kube-system.svc"
MINUTE = timedelta(minutes=1)
TERMS = Terms(
    names=("spiderpool-controller", HOST),
    ips=(ip_address("127.0.0.1"), ip_address("::1")),
    authority_life=30 * MINUTE,
    server_life=6 * MINUTE,
)


def believed(trusted: bytes, shown: bytes, at: datetime) -> bool:
    """Return whether an API server that trusts these would believe that certificate, as RFC 5280 says."""
    store = Store(x509.load_pem_x509_certificates(trusted))
    verifier = PolicyBuilder().store(store).time(at).build_server_verifier(x509.DNSName(HOST))
    try:
        verifier.verify(x509.load_pem_x509_certificate(shown), [])
    except x509.verification.VerificationError:
        return False
    return True


def begun(terms: Terms = TERMS) -> dict[str, bytes]:
    """Make the first ones."""
    data = renewed({}, terms, BEGIN)
    assert data is not None
    return data


def test_the_first_certificates() -> None:
    """There is an authority, and a server's certificate with all names that it signed; then nothing is to be done."""
    data = begun()

    assert {TRUSTED, *SIGNING, *SERVER} == set(data)
    assert believed(data[TRUSTED], data[SERVER[0]], BEGIN)
    names = x509.load_pem_x509_certificate(data[SERVER[0]]).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert list(TERMS.names) == names.value.get_values_for_type(x509.DNSName)
    assert list(TERMS.ips) == names.value.get_values_for_type(x509.IPAddress)
    assert renewed(data, TERMS, BEGIN) is None
    assert renewed(data, TERMS, BEGIN + 3 * MINUTE) is None


@pytest.mark.parametrize("late_s", [0, 10, 50])
def test_whatever_is_shown_is_believed_by_all(late_s: int) -> None:
    """
    Over three lives of an authority a replica that is late, and an API server that is late, understand each other.

    Both know what was there up to `late_s` ago: any of these certificates, any of these trusts.
    """
    data = begun()
    history = [(BEGIN, data)]
    authorities, servers = {data[SIGNING[0]]}, {data[SERVER[0]]}
    for step in range(1, 90 * 6):
        now = BEGIN + step * timedelta(seconds=10)
        data = renewed(data, TERMS, now) or data
        history.append((now, data))
        authorities.add(data[SIGNING[0]])
        servers.add(data[SERVER[0]])
        recent = [each for at, each in history if now - at <= timedelta(seconds=late_s)]
        assert all(
            believed(told[TRUSTED], shown[SERVER[0]], now) for told in recent for shown in recent
        ), f"after {now - BEGIN}"
        assert len(x509.load_pem_x509_certificates(data[TRUSTED])) <= 3
    assert len(authorities) >= 4
    assert len(servers) >= 15


def test_who_was_away_begins_again() -> None:
    """When all has ended while no replica ran, all is made again."""
    data = renewed(begun(), TERMS, BEGIN + 300 * MINUTE)

    assert data is not None
    assert believed(data[TRUSTED], data[SERVER[0]], BEGIN + 300 * MINUTE)


def test_new_names_are_taken_up() -> None:
    """A certificate that lacks a name makes room at once, signed by the same authority."""
    more = Terms(
        (*TERMS.names, "other.example"), TERMS.ips, TERMS.authority_life, TERMS.server_life
    )
    before = begun()
    after = renewed(before, more, BEGIN + MINUTE)

    assert after is not None
    assert (before[TRUSTED], before[SIGNING[0]]) == (after[TRUSTED], after[SIGNING[0]])
    assert before[SERVER[0]] != after[SERVER[0]]


def test_a_secret_of_the_chart_is_taken_over() -> None:
    """A Secret without the authority's key is served from until a new authority is known to all."""
    old = {key: value for key, value in begun().items() if key in {TRUSTED, *SERVER}}
    first = renewed(old, TERMS, BEGIN + MINUTE)
    assert first is not None
    assert old[SERVER[0]] == first[SERVER[0]]
    assert NEXT[0] in first
    second = renewed(first, TERMS, BEGIN + 3 * MINUTE)
    assert second is not None

    assert old[SERVER[0]] != second[SERVER[0]]
    for told in (first, second):
        for shown in (first, second):
            assert believed(told[TRUSTED], shown[SERVER[0]], BEGIN + 3 * MINUTE)


@pytest.mark.parametrize("key", [*SIGNING, *SERVER, TRUSTED])
def test_what_cannot_be_read_is_made_again(key: str) -> None:
    """A hand that wrote nonsense into the Secret stops nothing."""
    data = renewed({**begun(), key: b"nonsense"}, TERMS, BEGIN + MINUTE)
    assert data is not None
    data = renewed(data, TERMS, BEGIN + 3 * MINUTE) or data

    assert believed(data[TRUSTED], data[SERVER[0]], BEGIN + 3 * MINUTE)
    assert {TRUSTED, *SIGNING, *SERVER} == set(data)
