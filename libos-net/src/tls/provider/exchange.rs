//! The key exchange: secrets that live for one connection.

use crate::tls::Random;
use alloc::boxed::Box;
use alloc::vec::Vec;
use p256::elliptic_curve::sec1::ToSec1Point;
use p256::{PublicKey, SecretKey};
use rustls::crypto::{ActiveKeyExchange, SharedSecret, SupportedKxGroup};
use rustls::{Error, NamedGroup, PeerMisbehaved};

/// Numbers that are no key on P-256 come once in 2^32 times.
const TRIES: usize = 8;

fn invalid() -> Error {
    PeerMisbehaved::InvalidKeyShare.into()
}

/// Bytes that nobody can guess.
fn secret(random: Random) -> Result<[u8; 32], Error> {
    let mut bytes = [0; 32];
    if random(&mut bytes) { Ok(bytes) } else { Err(Error::FailedToGetRandomBytes) }
}

/// RFC 7748, with numbers from there.
#[derive(Debug)]
pub(super) struct X25519(pub(super) Random);

struct X25519Exchange {
    secret: x25519_dalek::StaticSecret,
    public: x25519_dalek::PublicKey,
}

impl SupportedKxGroup for X25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let secret = x25519_dalek::StaticSecret::from(secret(self.0)?);
        let public = x25519_dalek::PublicKey::from(&secret);
        Ok(Box::new(X25519Exchange { secret, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl ActiveKeyExchange for X25519Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer: [u8; 32] = peer.try_into().map_err(|_| invalid())?;
        let shared = self.secret.diffie_hellman(&peer.into());
        // A point of small order makes everybody's secret the same (RFC 8446, section 7.4.2).
        if !shared.was_contributory() {
            return Err(invalid());
        }
        Ok(SharedSecret::from(shared.as_bytes().as_slice()))
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

/// P-256 (SEC 1), with numbers from there.
#[derive(Debug)]
pub(super) struct P256(pub(super) Random);

struct P256Exchange {
    secret: SecretKey,
    public: Vec<u8>,
}

impl SupportedKxGroup for P256 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        for _ in 0..TRIES {
            if let Ok(secret) = SecretKey::from_slice(&secret(self.0)?) {
                let public = secret.public_key().to_sec1_point(false).as_bytes().to_vec();
                return Ok(Box::new(P256Exchange { secret, public }));
            }
        }
        Err(Error::FailedToGetRandomBytes)
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp256r1
    }
}

impl ActiveKeyExchange for P256Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        // Only points that are not compressed are allowed (RFC 8446, section 4.2.8.2).
        if peer.first() != Some(&4) {
            return Err(invalid());
        }
        let peer = PublicKey::from_sec1_bytes(peer).map_err(|_| invalid())?;
        let shared = p256::ecdh::diffie_hellman(self.secret.to_nonzero_scalar(), peer.as_affine());
        Ok(SharedSecret::from(shared.raw_secret_bytes().as_slice()))
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::secp256r1
    }
}
