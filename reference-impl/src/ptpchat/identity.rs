//! What proves who a node is, and keeps a channel's key from others: an X.509 certificate over a P-256 key, and HPKE
//! (RFC 9180) to that key. Everything is drawn from the node's seed, so that the same seed says the same bytes.

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::DhP256HkdfSha256;
use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, single_shot_open, single_shot_seal_with_rng,
};
use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{DerSignature, SigningKey, VerifyingKey};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, PKCS_ECDSA_P256_SHA256, SerialNumber, SignatureAlgorithm,
};
use thiserror::Error;
use x509_parser::parse_x509_certificate;

use super::guid::Guid;

type PrivateKey = <DhP256HkdfSha256 as Kem>::PrivateKey;
type EncappedKey = <DhP256HkdfSha256 as Kem>::EncappedKey;

/// What sealed keys are bound to.
const INFO: &[u8] = b"ptpchat channel key";
/// Bytes of an encapsulated key: an uncompressed point.
const ENCAPPED: usize = 65;

/// Why a certificate is not believed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CertificateError {
    /// It is no X.509 certificate.
    #[error("not an X.509 certificate")]
    Form,
    /// Its key is of another kind than ours.
    #[error("not a key on P-256")]
    Key,
    /// It was not signed with its own key.
    #[error("signature does not fit")]
    Signature,
}

/// The public key of another node, from its certificate.
#[derive(Clone, Debug)]
pub struct PublicKey(<DhP256HkdfSha256 as Kem>::PublicKey);

impl PublicKey {
    /// The key in a certificate that its owner signed.
    pub fn from_certificate(der: &[u8]) -> Result<PublicKey, CertificateError> {
        let (rest, certificate) = parse_x509_certificate(der).map_err(|_| CertificateError::Form)?;
        if !rest.is_empty() {
            return Err(CertificateError::Form);
        }
        let point = certificate.public_key().subject_public_key.data.as_ref();
        let verifier = VerifyingKey::from_sec1_bytes(point).map_err(|_| CertificateError::Key)?;
        let signature = DerSignature::from_bytes(&certificate.signature_value.data)
            .map_err(|_| CertificateError::Signature)?;
        verifier
            .verify(certificate.tbs_certificate.as_ref(), &signature)
            .map_err(|_| CertificateError::Signature)?;
        // HPKE reads points in their long form only.
        let long = verifier.to_sec1_point(false);
        let key = <DhP256HkdfSha256 as Kem>::PublicKey::from_bytes(long.as_bytes());
        key.map(PublicKey).map_err(|_| CertificateError::Key)
    }
}

/// A node's key pair and certificate.
pub struct Identity {
    private: PrivateKey,
    signer: SigningKey,
    point: Vec<u8>,
    certificate: Vec<u8>,
    dice: ChaCha20Rng,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    /// The identity of the node called `name`.
    pub fn new(seed: u64, name: Guid) -> Identity {
        let material = format!("ptpchat identity {seed} {name}");
        let (private, public) = DhP256HkdfSha256::derive_keypair(material.as_bytes());
        let signer = SigningKey::from_slice(&private.to_bytes()).expect("HPKE derives scalars of the curve");
        let point = public.to_bytes().to_vec();
        let mut dice = ChaCha20Rng::seed_from_u64(seed);
        // Nodes of one seed must not share what they draw.
        dice.set_stream(point.iter().fold(0, |stream: u64, byte| stream.rotate_left(5) ^ u64::from(*byte)));
        let mut identity = Identity { private, signer, point, certificate: Vec::new(), dice };
        identity.certificate = identity.self_signed(name);
        identity
    }

    fn self_signed(&self, name: Guid) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(1));
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name.to_string());
        let certificate = params.self_signed(self).expect("every parameter is given and the key signs");
        certificate.der().to_vec()
    }

    /// The certificate, in DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Encrypts a channel's key for somebody else.
    pub fn seal(&mut self, reader: &PublicKey, channel: Guid, key: &[u8]) -> Vec<u8> {
        let (encapped, sealed) = single_shot_seal_with_rng::<AesGcm256, HkdfSha256, DhP256HkdfSha256>(
            &OpModeS::Base,
            &reader.0,
            INFO,
            key,
            channel.to_string().as_bytes(),
            &mut self.dice,
        )
        .expect("a public key that was read can be encrypted to");
        [encapped.to_bytes().as_slice(), &sealed].concat()
    }

    /// Decrypts a channel's key that somebody encrypted for this node.
    pub fn open(&self, channel: Guid, sealed: &[u8]) -> Option<Vec<u8>> {
        let (encapped, sealed) = sealed.split_at_checked(ENCAPPED)?;
        single_shot_open::<AesGcm256, HkdfSha256, DhP256HkdfSha256>(
            &OpModeR::Base,
            &self.private,
            &EncappedKey::from_bytes(encapped).ok()?,
            INFO,
            sealed,
            channel.to_string().as_bytes(),
        )
        .ok()
    }
}

impl rcgen::PublicKeyData for Identity {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Identity {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        // Deterministic by RFC 6979, as the seed must decide.
        let signature: DerSignature = self.signer.sign(message);
        Ok(signature.to_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(last: u32) -> Guid {
        Guid::parse(&format!("b0b00000-0000-4000-8000-{last:012}")).expect("a GUID")
    }

    #[test]
    fn a_key_travels_to_the_owner_of_a_certificate_and_to_nobody_else() {
        let (mut alice, bob, carol) =
            (Identity::new(1, name(1)), Identity::new(1, name(2)), Identity::new(1, name(3)));
        let reader = PublicKey::from_certificate(bob.certificate()).expect("bob's certificate");
        let sealed = alice.seal(&reader, name(9), b"secret");
        assert_eq!(bob.open(name(9), &sealed).as_deref(), Some(b"secret".as_slice()));
        assert_eq!(bob.open(name(8), &sealed), None, "sealed for another channel");
        assert_eq!(carol.open(name(9), &sealed), None, "sealed for another node");
        assert_eq!(bob.open(name(9), &sealed[..40]), None, "cut short");
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(Identity::new(5, name(1)).certificate(), Identity::new(5, name(1)).certificate());
        assert_ne!(Identity::new(5, name(1)).certificate(), Identity::new(6, name(1)).certificate());
    }

    #[test]
    fn a_certificate_names_its_node_and_cannot_be_altered() {
        let bob = Identity::new(1, name(2));
        let (_, certificate) = parse_x509_certificate(bob.certificate()).expect("a certificate");
        assert_eq!(certificate.subject().to_string(), format!("CN={}", name(2)));
        let mut altered = bob.certificate().to_vec();
        let place = altered.windows(4).position(|part| part == b"b0b0").expect("the name stands in it");
        altered[place] = b'a';
        assert_eq!(PublicKey::from_certificate(&altered).err(), Some(CertificateError::Signature));
        assert_eq!(PublicKey::from_certificate(b"MIIB").err(), Some(CertificateError::Form));
    }
}
