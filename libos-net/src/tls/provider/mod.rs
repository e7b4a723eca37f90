//! The cryptography: primitives of RustCrypto as `rustls` wants them.
//!
//! Of the processor's instructions for AES and carry-less multiplication the crates make use if it has them.

mod aead;
mod exchange;
mod hash;
mod sign;

use super::Random;
use aead::Aead;
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use alloc::boxed::Box;
use alloc::vec;
use chacha20poly1305::ChaCha20Poly1305;
use exchange::{P256, X25519};
use hash::{HashOf, HmacOf};
use hmac::Hmac;
use rustls::crypto::tls13::HkdfUsingHmac;
use rustls::crypto::{
    CipherSuiteCommon, CryptoProvider, GetRandomFailed, SecureRandom, WebPkiSupportedAlgorithms,
};
use rustls::{CipherSuite, SupportedCipherSuite, Tls13CipherSuite};
use sha2::{Sha256, Sha384};

/// Records under one key at most before it is changed: for AES-GCM by its bounds (RFC 8446, section 5.5).
const AES_RECORDS: u64 = 1 << 24;

static SHA256: HashOf<Sha256> = HashOf::new(rustls::crypto::hash::HashAlgorithm::SHA256);
static SHA384: HashOf<Sha384> = HashOf::new(rustls::crypto::hash::HashAlgorithm::SHA384);
static HMAC_SHA256: HmacOf<Hmac<Sha256>> = HmacOf::new();
static HMAC_SHA384: HmacOf<Hmac<Sha384>> = HmacOf::new();
static HKDF_SHA256: HkdfUsingHmac<'static> = HkdfUsingHmac(&HMAC_SHA256);
static HKDF_SHA384: HkdfUsingHmac<'static> = HkdfUsingHmac(&HMAC_SHA384);

static AES_128: Tls13CipherSuite = Tls13CipherSuite {
    common: CipherSuiteCommon {
        suite: CipherSuite::TLS13_AES_128_GCM_SHA256,
        hash_provider: &SHA256,
        confidentiality_limit: AES_RECORDS,
    },
    hkdf_provider: &HKDF_SHA256,
    aead_alg: &Aead::<Aes128Gcm>::new(),
    quic: None,
};

static AES_256: Tls13CipherSuite = Tls13CipherSuite {
    common: CipherSuiteCommon {
        suite: CipherSuite::TLS13_AES_256_GCM_SHA384,
        hash_provider: &SHA384,
        confidentiality_limit: AES_RECORDS,
    },
    hkdf_provider: &HKDF_SHA384,
    aead_alg: &Aead::<Aes256Gcm>::new(),
    quic: None,
};

static CHACHA20: Tls13CipherSuite = Tls13CipherSuite {
    common: CipherSuiteCommon {
        suite: CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        hash_provider: &SHA256,
        confidentiality_limit: u64::MAX,
    },
    hkdf_provider: &HKDF_SHA256,
    aead_alg: &Aead::<ChaCha20Poly1305>::new(),
    quic: None,
};

/// Everything, with random numbers from `random`. Some words of memory stay for ever: it is made once.
pub(super) fn provider(random: Random) -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            SupportedCipherSuite::Tls13(&AES_128),
            SupportedCipherSuite::Tls13(&AES_256),
            SupportedCipherSuite::Tls13(&CHACHA20),
        ],
        kx_groups: vec![Box::leak(Box::new(X25519(random))), Box::leak(Box::new(P256(random)))],
        // A server that asks nobody for a certificate judges none.
        signature_verification_algorithms: WebPkiSupportedAlgorithms { all: &[], mapping: &[] },
        secure_random: Box::leak(Box::new(Numbers(random))),
        key_provider: &sign::Keys,
    }
}

#[derive(Debug)]
struct Numbers(Random);

impl SecureRandom for Numbers {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        if (self.0)(bytes) { Ok(()) } else { Err(GetRandomFailed) }
    }
}
