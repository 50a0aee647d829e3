"""The certificate of a node, and channel keys sealed for others."""
import base64
import datetime
import os

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import NameOID


class Secrets:
    def __init__(self, node_id):
        private = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node_id)])
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number(),
                                          now - datetime.timedelta(days=1), now + datetime.timedelta(days=30))
        signed = builder.sign(private, hashes.SHA256())
        self.certificate = base64.b64encode(signed.public_bytes(serialization.Encoding.DER)).decode()

    @staticmethod
    def seal(certificate, key):
        """A cipher and the key, which only the owner of the certificate can open; without a cipher where none fits."""
        try:
            public = x509.load_der_x509_certificate(certificate).public_key()
        except ValueError:
            return None, b""
        if isinstance(public, rsa.RSAPublicKey):
            oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
            return "AES-256-GCM; RSA-OAEP-256", public.encrypt(key, oaep)
        if isinstance(public, ec.EllipticCurvePublicKey):
            mine = ec.generate_private_key(public.curve)
            shared = mine.exchange(ec.ECDH(), public)
            derived = HKDF(hashes.SHA256(), 32, None, b"ptpchat channel key").derive(shared)
            nonce = os.urandom(12)
            point = mine.public_key().public_bytes(serialization.Encoding.X962,
                                                   serialization.PublicFormat.UncompressedPoint)
            return "AES-256-GCM; ECDH", point + nonce + AESGCM(derived).encrypt(nonce, key, None)
        return None, b""
