"""Certificates and kubeconfigs."""

import base64
import ipaddress

import yaml
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spiderlab.pki import Issued, issue, make_authority, render_kubeconfig


def extended_usages(issued: Issued) -> set[x509.ObjectIdentifier]:
    """Return what a certificate may be used for."""
    return set(issued.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_a_client_certificate_names_user_and_group_and_is_signed_by_its_authority() -> None:
    """Kubernetes reads the user from CN and the group from O, and trusts what its authority signed."""
    authority = make_authority("lab")

    issued = issue(authority, "system:node:node1", "system:nodes")

    subject = issued.certificate.subject
    assert "system:node:node1" == subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    assert "system:nodes" == subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value
    issued.certificate.verify_directly_issued_by(authority.certificate)
    assert {ExtendedKeyUsageOID.CLIENT_AUTH} == extended_usages(issued)


def test_a_serving_certificate_names_hosts_and_addresses() -> None:
    """Names become DNS names, addresses become IP addresses, since TLS compares each with its own kind."""
    issued = issue(
        make_authority("lab"), "kube-apiserver", serves=("kubernetes", "10.233.0.1", "::1")
    )

    names = issued.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert ["kubernetes"] == names.get_values_for_type(x509.DNSName)
    assert [
        ipaddress.ip_address("10.233.0.1"),
        ipaddress.ip_address("::1"),
    ] == names.get_values_for_type(x509.IPAddress)
    assert ExtendedKeyUsageOID.SERVER_AUTH in extended_usages(issued)


def test_a_kubeconfig_carries_all_it_needs() -> None:
    """Server, authority, certificate and key are inside the one file."""
    authority = make_authority("lab")
    issued = issue(authority, "admin")

    config = yaml.safe_load(
        render_kubeconfig("https://172.18.0.11:6443", authority, "admin", issued)
    )

    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    assert "https://172.18.0.11:6443" == cluster["server"]
    assert authority.pem == base64.b64decode(cluster["certificate-authority-data"])
    assert (issued.pem, issued.key_pem) == tuple(
        base64.b64decode(user[key]) for key in ("client-certificate-data", "client-key-data")
    )
    assert config["current-context"] == config["contexts"][0]["name"]
