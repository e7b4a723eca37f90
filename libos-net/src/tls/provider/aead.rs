//! Records, encrypted and authenticated (RFC 8446, section 5.2).

use aes_gcm::aead::consts::{U12, U16};
use aes_gcm::aead::{AeadCore, AeadInOut, KeyInit, KeySizeUser, Tag};
use alloc::boxed::Box;
use core::marker::PhantomData;
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, MessageEncrypter, Nonce,
    OutboundOpaqueMessage, OutboundPlainMessage, PrefixedPayload, Tls13AeadAlgorithm,
    UnsupportedOperationError, make_tls13_aad,
};
use rustls::{ConnectionTrafficSecrets, ContentType, Error, ProtocolVersion};

/// Bytes of the tag of all ciphers here.
const TAG_BYTES: usize = 16;

/// A cipher by its type.
pub(super) struct Aead<C>(PhantomData<fn() -> C>);

impl<C> Aead<C> {
    pub(super) const fn new() -> Aead<C> {
        Aead(PhantomData)
    }
}

/// A cipher with the sizes of TLS.
trait Cipher: AeadInOut + AeadCore<NonceSize = U12, TagSize = U16> + KeyInit + Send + Sync + 'static {}

impl<C: AeadInOut + AeadCore<NonceSize = U12, TagSize = U16> + KeyInit + Send + Sync + 'static> Cipher for C {}

/// A cipher with its key, for one direction.
struct Keyed<C> {
    /// `None` if the key had another size, which rustls rules out; then nothing is let through.
    cipher: Option<C>,
    iv: Iv,
}

impl<C: Cipher> Keyed<C> {
    fn new(key: &AeadKey, iv: Iv) -> Keyed<C> {
        Keyed { cipher: C::new_from_slice(key.as_ref()).ok(), iv }
    }
}

impl<C: Cipher> Tls13AeadAlgorithm for Aead<C> {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(Keyed::<C>::new(&key, iv))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        Box::new(Keyed::<C>::new(&key, iv))
    }

    fn key_len(&self) -> usize {
        <C as KeySizeUser>::key_size()
    }

    fn extract_keys(&self, _: AeadKey, _: Iv) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        Err(UnsupportedOperationError)
    }
}

impl<C: Cipher> MessageEncrypter for Keyed<C> {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        seq: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        let cipher = self.cipher.as_ref().ok_or(Error::EncryptError)?;
        let bytes = self.encrypted_payload_len(message.payload.len());
        let mut payload = PrefixedPayload::with_capacity(bytes);
        payload.extend_from_chunks(&message.payload);
        payload.extend_from_slice(&message.typ.to_array());
        let nonce = Nonce::new(&self.iv, seq).0.into();
        let tag = cipher
            .encrypt_inout_detached(&nonce, &make_tls13_aad(bytes), payload.as_mut().into())
            .map_err(|_| Error::EncryptError)?;
        payload.extend_from_slice(&tag);
        // All records bear this type and version (RFC 8446, section 5.2).
        Ok(OutboundOpaqueMessage::new(ContentType::ApplicationData, ProtocolVersion::TLSv1_2, payload))
    }

    fn encrypted_payload_len(&self, bytes: usize) -> usize {
        bytes + 1 + TAG_BYTES
    }
}

impl<C: Cipher> MessageDecrypter for Keyed<C> {
    fn decrypt<'a>(
        &mut self,
        mut message: InboundOpaqueMessage<'a>,
        seq: u64,
    ) -> Result<InboundPlainMessage<'a>, Error> {
        let cipher = self.cipher.as_ref().ok_or(Error::DecryptError)?;
        let payload = &mut message.payload;
        let aad = make_tls13_aad(payload.len());
        let bytes = payload.len().checked_sub(TAG_BYTES).ok_or(Error::DecryptError)?;
        let (text, tag) = payload.split_at_mut(bytes);
        let tag = Tag::<C>::try_from(&*tag).map_err(|_| Error::DecryptError)?;
        let nonce = Nonce::new(&self.iv, seq).0.into();
        cipher.decrypt_inout_detached(&nonce, &aad, text.into(), &tag).map_err(|_| Error::DecryptError)?;
        payload.truncate(bytes);
        message.into_tls13_unpadded_message()
    }
}
