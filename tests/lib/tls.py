"""A certificate authority of its own: a root, an intermediate CA, and what they sign."""

import datetime
import ipaddress
import os
import shutil

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from . import paths
from .postgres import USER

DAY = datetime.timedelta(days=1)


class Authority:
    """Files, all PEM: `root`, the root's certificate; those that pair() makes; crl()."""

    def __init__(self):
        self.dir = paths.scratch("tls")
        # Roots of one name would be taken for each other.
        self._root_name = f"Root of {self.dir.name}"
        self._root_key = ec.generate_private_key(ec.SECP256R1())
        self._ca_key = ec.generate_private_key(ec.SECP256R1())
        self._root = _sign(self._root_name, self._root_key, self._root_name, self._root_key,
                           ca=True)
        self._ca = _sign("Test CA", self._ca_key, self._root_name, self._root_key, ca=True)
        self.root = self._write("root.crt", _pem(self._root))
        _give(self.dir)

    def pair(self, name, hosts=(), first=-DAY, last=2 * DAY, password=None):
        """A certificate for the common name `name` and for these hosts, valid between the two
        times from now; returns its file (with the intermediate behind it) and its key's."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign(name, key, "Test CA", self._ca_key, hosts, first=first, last=last)
        file = self._write(f"{name}-{certificate.serial_number:x}.crt",
                           _pem(certificate) + _pem(self._ca))
        lock = (serialization.BestAvailableEncryption(password.encode()) if password
                else serialization.NoEncryption())
        secret = key.private_bytes(serialization.Encoding.PEM,
                                   serialization.PrivateFormat.PKCS8, lock)
        return file, self._write(file.with_suffix(".key").name, secret)

    def crl(self, *revoked):
        """A file with the lists of both CAs; the second one's has these certificates."""
        lists = b""
        for name, key, files in ((self._root_name, self._root_key, ()),
                                 ("Test CA", self._ca_key, revoked)):
            now = datetime.datetime.utcnow()
            builder = x509.CertificateRevocationListBuilder().issuer_name(_name(name)) \
                .last_update(now - DAY).next_update(now + DAY)
            for file in files:
                serial = x509.load_pem_x509_certificate(file.read_bytes()).serial_number
                builder = builder.add_revoked_certificate(
                    x509.RevokedCertificateBuilder().serial_number(serial)
                    .revocation_date(now - DAY).build())
            lists += _pem(builder.sign(key, hashes.SHA256()))
        return self._write(f"revoked-{len(revoked)}.crl", lists)

    def _write(self, name, data):
        path = self.dir / name
        path.write_bytes(data)
        path.chmod(0o600 if path.suffix == ".key" else 0o644)
        return path


def give_to_server(*files):
    """A server that does not run as we do must own its key."""
    for file in files:
        _give(file)


def _give(path):
    if os.getuid() == 0:
        shutil.chown(path, USER)


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(what):
    return what.public_bytes(serialization.Encoding.PEM)


def _host(text):
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _sign(name, key, issuer, issuer_key, hosts=(), ca=False, first=-DAY, last=2 * DAY):
    now = datetime.datetime.utcnow()
    builder = x509.CertificateBuilder().subject_name(_name(name)).issuer_name(_name(issuer)) \
        .public_key(key.public_key()).serial_number(x509.random_serial_number()) \
        .not_valid_before(now + first).not_valid_after(now + last) \
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(map(_host, hosts)), False)
    return builder.sign(issuer_key, hashes.SHA256())
