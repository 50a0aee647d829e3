//! From a URL to a place on the network.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use crate::world::network::{Place, Tls};

/// A target's URL, taken apart.
#[derive(Debug)]
pub(super) struct TargetUrl {
    pub(super) place: Place,
    pub(super) address: SocketAddr,
    /// Host and port as they stand in the URL.
    pub(super) host: String,
    /// The path, when the URL has one.
    pub(super) path: Option<String>,
}

/// Takes a URL apart. The error is text for a person.
pub(super) fn parse(url: &str, insecure: bool) -> Result<TargetUrl, String> {
    let (scheme, rest) =
        url.split_once("://").ok_or_else(|| format!("`{url}` is not a URL such as ws://127.0.0.1:13372/"))?;
    let (secure, default_port) = match scheme {
        "ws" | "http" => (false, 80),
        "wss" | "https" => (true, 443),
        "tcp" | "udp" => (false, 0),
        _ => {
            let known = "ws://, wss://, http://, https://, tcp:// and udp://";
            return Err(format!("`{scheme}` is not a scheme flowproof knows; it takes {known}"));
        }
    };
    let (authority, path) = match rest.find('/') {
        // The root alone says nothing of where the protocol is served.
        Some(place) if rest.len() > place + 1 => (&rest[..place], Some(rest[place..].to_owned())),
        Some(place) => (&rest[..place], None),
        None => (rest, None),
    };
    let name = authority.rsplit_once(':').filter(|(_, port)| port.chars().all(|c| c.is_ascii_digit()));
    let (name, port) = match name {
        Some((name, port)) => (name, port.parse::<u16>().map_err(|_| format!("`{port}` is not a port"))?),
        None => (authority, default_port),
    };
    let plain = name.trim_start_matches('[').trim_end_matches(']');
    let found = (plain, port).to_socket_addrs();
    let mut found = found.map_err(|error| format!("{authority} has no address: {error}"))?;
    let address = found.next().ok_or_else(|| format!("{authority} has no address"))?;
    let tls = match secure {
        true => Some(tls(plain, insecure)?),
        false => None,
    };
    if address.port() == 0 {
        return Err(format!("`{url}` names no port"));
    }
    let place = match scheme {
        "udp" => Place::Peer { address: Some(address), command: None },
        _ => Place::Listens { address, tls, program: None },
    };
    Ok(TargetUrl { place, address, host: authority.to_owned(), path })
}

fn tls(name: &str, insecure: bool) -> Result<Tls, String> {
    let server_name = rustls_pki_types::ServerName::try_from(name.to_owned());
    let name = server_name.map_err(|_| format!("`{name}` cannot be the name of a TLS server"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let config = if insecure {
        let trust_all = Arc::new(TrustEverybody { provider });
        builder.dangerous().with_custom_certificate_verifier(trust_all).with_no_client_auth()
    } else {
        let roots = rustls::RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        builder.with_root_certificates(roots).with_no_client_auth()
    };
    Ok(Tls { name, config: Arc::new(config) })
}

/// For `--insecure`: test servers have certificates that nobody signed.
#[derive(Debug)]
struct TrustEverybody {
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl rustls::client::danger::ServerCertVerifier for TrustEverybody {
    fn verify_server_cert(
        &self,
        _end_entity: &rustls_pki_types::CertificateDer<'_>,
        _intermediates: &[rustls_pki_types::CertificateDer<'_>],
        _server_name: &rustls_pki_types::ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
