"""Certificates and kubeconfigs of the cluster, made again for each lab."""

import base64
import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spiderlab import kuberouter, paths
from spiderlab.topology import SERVICE_NETWORK, SERVICE_NETWORK6, Topology

VALID_FOR = dt.timedelta(days=365)
Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Issued:
    """A key and its certificate."""

    key: Key
    certificate: x509.Certificate

    @property
    def key_pem(self) -> bytes:
        """The key as PEM."""
        return pem_of(self.key)

    @property
    def pem(self) -> bytes:
        """The certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def write(self, name: str) -> None:
        """Write `name.crt` and `name.key`."""
        write_secret(paths.PKI / f"{name}.key", self.key_pem)
        (paths.PKI / f"{name}.crt").write_bytes(self.pem)


def pem_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """A private key as PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that only root reads."""
    path.touch(mode=0o600)
    path.write_bytes(content)


def _builder(subject: x509.Name, issuer: x509.Name, key: Key) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + VALID_FOR)
    )


def _name(common_name: str, group: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if group:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    return x509.Name(parts)


def make_authority(common_name: str) -> Issued:
    """A certificate authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(common_name)
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True,
        content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        _builder(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return Issued(key, certificate)


def issue(
    authority: Issued, common_name: str, group: str = "", *, serves: tuple[str, ...] = ()
) -> Issued:
    """
    A client certificate of a user in a group.

    One that also serves under these names and addresses, where given.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    usages = [
        ExtendedKeyUsageOID.CLIENT_AUTH,
        *([ExtendedKeyUsageOID.SERVER_AUTH] if serves else []),
    ]
    builder = _builder(_name(common_name, group), authority.certificate.subject, key).add_extension(
        x509.ExtendedKeyUsage(usages), critical=False
    )
    if serves:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_alternative(name) for name in serves]), critical=False
        )
    return Issued(key, builder.sign(authority.key, hashes.SHA256()))


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def render_kubeconfig(server: str, authority: Issued, user: str, issued: Issued) -> str:
    """A kubeconfig with everything inside, so that the one file is enough."""

    def text(raw: bytes) -> str:
        return base64.b64encode(raw).decode()

    return yaml.safe_dump({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "lab",
            "cluster": {"server": server, "certificate-authority-data": text(authority.pem)},
        }],
        "users": [{
            "name": user,
            "user": {
                "client-certificate-data": text(issued.pem),
                "client-key-data": text(issued.key_pem),
            },
        }],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
        "current-context": "lab",
    })  # fmt: skip


def make_all(topology: Topology) -> None:
    """Make every key, certificate and kubeconfig of a lab."""
    paths.PKI.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = make_authority("lab")
    authority.write("ca")
    control = topology.control_plane
    names = (
        "kubernetes", "kubernetes.default", "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local", "localhost", control.name,
        "127.0.0.1", "::1", str(control.ip), str(control.ip6),
        str(SERVICE_NETWORK[1]), str(SERVICE_NETWORK6[1]),
    )  # fmt: skip
    issue(authority, "kube-apiserver", serves=names).write("apiserver")
    admin = issue(authority, "kubernetes-admin", "system:masters")
    admin.write("admin")
    issue(authority, "kube-apiserver-kubelet-client", "system:masters").write(
        "apiserver-kubelet-client"
    )
    make_authority("front-proxy").write("front-proxy-ca")
    write_secret(paths.PKI / "service-account.key", pem_of(rsa.generate_private_key(65537, 2048)))
    users = {
        "kube-controller-manager": ("system:kube-controller-manager", ""),
        "kube-scheduler": ("system:kube-scheduler", ""),
        "kube-proxy": ("system:kube-proxy", ""),
        kuberouter.USER: (kuberouter.USER, ""),
        **{
            f"kubelet-{node.name}": (f"system:node:{node.name}", "system:nodes")
            for node in topology.nodes
        },
    }
    for file, (user, group) in users.items():
        config = render_kubeconfig(
            topology.api_server, authority, user, issue(authority, user, group)
        )
        write_secret(paths.kubeconfig(file), config.encode())
    write_secret(
        paths.KUBECONFIG,
        render_kubeconfig(topology.api_server, authority, "kubernetes-admin", admin).encode(),
    )
