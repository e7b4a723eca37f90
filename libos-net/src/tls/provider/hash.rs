//! Hashes, and keyed ones.

use alloc::boxed::Box;
use core::marker::PhantomData;
use hmac::{KeyInit, Mac};
use rustls::crypto::hash::{Context, Hash, HashAlgorithm, Output};
use rustls::crypto::hmac::{Hmac, Key, Tag};
use sha2::Digest;

/// A hash by its type.
pub(super) struct HashOf<D> {
    algorithm: HashAlgorithm,
    digest: PhantomData<fn() -> D>,
}

impl<D> HashOf<D> {
    pub(super) const fn new(algorithm: HashAlgorithm) -> HashOf<D> {
        HashOf { algorithm, digest: PhantomData }
    }
}

impl<D: Digest + Clone + Send + Sync + 'static> Hash for HashOf<D> {
    fn start(&self) -> Box<dyn Context> {
        Box::new(Running(D::new()))
    }

    fn hash(&self, data: &[u8]) -> Output {
        Output::new(&D::digest(data))
    }

    fn output_len(&self) -> usize {
        <D as Digest>::output_size()
    }

    fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }
}

struct Running<D>(D);

impl<D: Digest + Clone + Send + Sync + 'static> Context for Running<D> {
    fn fork_finish(&self) -> Output {
        Output::new(&self.0.clone().finalize())
    }

    fn fork(&self) -> Box<dyn Context> {
        Box::new(Running(self.0.clone()))
    }

    fn finish(self: Box<Self>) -> Output {
        Output::new(&self.0.finalize())
    }

    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }
}

/// A keyed hash by its type.
pub(super) struct HmacOf<M>(PhantomData<fn() -> M>);

impl<M> HmacOf<M> {
    pub(super) const fn new() -> HmacOf<M> {
        HmacOf(PhantomData)
    }
}

impl<M: Mac + KeyInit + Clone + Send + Sync + 'static> Hmac for HmacOf<M> {
    fn with_key(&self, key: &[u8]) -> Box<dyn Key> {
        Box::new(Keyed(M::new_from_slice(key).expect("HMAC takes keys of any length")))
    }

    fn hash_output_len(&self) -> usize {
        M::output_size()
    }
}

struct Keyed<M>(M);

impl<M: Mac + Clone + Send + Sync> Key for Keyed<M> {
    fn sign_concat(&self, first: &[u8], middle: &[&[u8]], last: &[u8]) -> Tag {
        let mut mac = self.0.clone();
        mac.update(first);
        middle.iter().for_each(|part| mac.update(part));
        mac.update(last);
        Tag::new(&mac.finalize().into_bytes())
    }

    fn tag_len(&self) -> usize {
        M::output_size()
    }
}
