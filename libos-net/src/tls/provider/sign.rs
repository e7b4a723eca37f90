//! The server's signature: ECDSA on P-256, without random numbers (RFC 6979).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use p256::SecretKey;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::DecodePrivateKey;
use rustls::crypto::KeyProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::{Signer, SigningKey as Key};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};

/// Reads keys.
#[derive(Debug)]
pub(super) struct Keys;

impl KeyProvider for Keys {
    fn load_private_key(&self, key: PrivateKeyDer<'static>) -> Result<Arc<dyn Key>, Error> {
        let unfit = |what: &str| Error::General(what.into());
        let secret = match &key {
            PrivateKeyDer::Pkcs8(der) => SecretKey::from_pkcs8_der(der.secret_pkcs8_der())
                .map_err(|_| unfit("a key in PKCS #8, but not one on P-256")),
            PrivateKeyDer::Sec1(der) => SecretKey::from_sec1_der(der.secret_sec1_der())
                .map_err(|_| unfit("a key on an elliptic curve, but not on P-256")),
            _ => Err(unfit("a key for RSA")),
        }?;
        Ok(Arc::new(Ecdsa(Arc::new(SigningKey::from(secret)))))
    }
}

/// A key; it is not shown.
#[derive(Clone)]
struct Ecdsa(Arc<SigningKey>);

impl core::fmt::Debug for Ecdsa {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Ecdsa")
    }
}

impl Key for Ecdsa {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let fits = offered.contains(&SignatureScheme::ECDSA_NISTP256_SHA256);
        fits.then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for Ecdsa {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature: Signature =
            self.0.try_sign(message).map_err(|_| Error::General("signing has failed".into()))?;
        Ok(signature.to_der().as_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}
