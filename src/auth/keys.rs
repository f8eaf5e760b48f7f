//! The keys that signatures of tokens are checked with, each pinned to the algorithms it is for.
//!
//! A key never checks a signature of another kind than its own, whatever a token's header asks for: a public key cannot be
//! passed off as an HMAC secret, and `none` is no algorithm at all.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse},
};

use super::Secret;

/// Most keys in a file.
const MAX_KEYS: usize = 64;
/// Largest file of keys, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Smallest RSA key, in bytes of its modulus (RFC 7518 §3.3).
const MIN_RSA_BYTES: usize = 2048 / 8;
/// An uncompressed point on P-256, in bytes.
const P256_POINT_BYTES: usize = 65;
/// How often the file of keys is looked at, at most.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A key, and what it is for.
#[derive(Clone)]
pub(super) struct Key {
    /// The `kid` that tokens name it by.
    pub(super) id: Option<String>,
    /// It checks signatures of these algorithms and no others.
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) decoding: DecodingKey,
}

/// Keys that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(String);

impl Key {
    /// A secret, for as strong an HMAC as it is long (RFC 7518 §3.2).
    pub(super) fn from_secret(secret: &Secret) -> Self {
        let bytes = secret.expose().as_bytes();
        let strengths = [
            (Algorithm::HS256, 32),
            (Algorithm::HS384, 48),
            (Algorithm::HS512, 64),
        ];
        let algorithms = strengths.into_iter().filter(|(_, least)| bytes.len() >= *least);
        Self {
            id: None,
            algorithms: algorithms.map(|(algorithm, _)| algorithm).collect(),
            decoding: DecodingKey::from_secret(bytes),
        }
    }

    /// Public keys in PEM, one after the other: RSA, P-256 or Ed25519. Line ends may be written `\n`, as in variables.
    pub(super) fn from_pem(pem: &str) -> Result<Vec<Self>, KeyError> {
        let pem = pem.trim().replace("\\r", "").replace("\\n", "\n");
        let wrong = |problem: &str| KeyError(problem.to_owned());
        if pem.contains("PRIVATE KEY-----") {
            return Err(wrong(
                "is a private key: keep it where tokens are signed, and give its public half (`openssl pkey -pubout`)",
            ));
        }
        if pem.contains("-----BEGIN CERTIFICATE-----") {
            return Err(wrong(
                "is a certificate: give its key (`openssl x509 -pubkey -noout`)",
            ));
        }
        const BEGIN: &str = "-----BEGIN ";
        let blocks: Vec<_> = pem.split(BEGIN).skip(1).collect();
        if blocks.is_empty() {
            return Err(wrong("is no public key in PEM (RSA, P-256 or Ed25519)"));
        }
        let several = blocks.len() > 1;
        let read = |(n, block): (usize, &&str)| {
            Self::from_block(&format!("{BEGIN}{block}")).map_err(|KeyError(problem)| match several {
                true => KeyError(format!("has several keys, of which number {} {problem}", n + 1)),
                false => KeyError(problem),
            })
        };
        blocks.iter().enumerate().map(read).collect()
    }

    fn from_block(pem: &str) -> Result<Self, KeyError> {
        let pem = pem.as_bytes();
        let rsa = || Some((Algorithm::RS256, DecodingKey::from_rsa_pem(pem).ok()?));
        let curve = || Some((Algorithm::ES256, DecodingKey::from_ec_pem(pem).ok()?));
        let edwards = || Some((Algorithm::EdDSA, DecodingKey::from_ed_pem(pem).ok()?));
        let (algorithm, decoding) = rsa()
            .or_else(curve)
            .or_else(edwards)
            .ok_or_else(|| KeyError("is no public key in PEM (RSA, P-256 or Ed25519)".to_owned()))?;
        if algorithm == Algorithm::RS256 {
            strong_enough(&decoding)?;
        }
        // The point of another curve has another length.
        if algorithm == Algorithm::ES256 && size(&decoding) != P256_POINT_BYTES {
            return Err(KeyError("is a key on another curve than P-256".to_owned()));
        }
        Ok(Self {
            id: None,
            algorithms: vec![algorithm],
            decoding,
        })
    }

    /// A key of a set; `None` for one that is for something else.
    fn from_jwk(jwk: &Jwk) -> Result<Option<Self>, KeyError> {
        let common = &jwk.common;
        if matches!(common.public_key_use, Some(ref usage) if *usage != PublicKeyUse::Signature) {
            return Ok(None);
        }
        let (algorithm, named) = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                (Algorithm::ES256, KeyAlgorithm::ES256)
            }
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
            }
            AlgorithmParameters::OctetKey(_) => {
                return Err(KeyError(
                    "has a secret among its keys: a set is for public keys, give a secret as JWT_SECRET"
                        .to_owned(),
                ));
            }
            AlgorithmParameters::EllipticCurve(_)
            | AlgorithmParameters::OctetKeyPair(_)
            | AlgorithmParameters::Other(_) => return Ok(None),
            // What newer versions of the library know.
            _ => return Ok(None),
        };
        // `Ed25519`, the newer name of EdDSA, is one that the library does not know.
        let newer =
            algorithm == Algorithm::EdDSA && common.key_algorithm == Some(KeyAlgorithm::UNKNOWN_ALGORITHM);
        if common.key_algorithm.is_some_and(|given| given != named) && !newer {
            return Ok(None);
        }
        let decoding = DecodingKey::from_jwk(jwk)
            .map_err(|error| KeyError(format!("has a key that cannot be read: {error}")))?;
        if algorithm == Algorithm::RS256 {
            strong_enough(&decoding)?;
        }
        Ok(Some(Self {
            id: common.key_id.clone(),
            algorithms: vec![algorithm],
            decoding,
        }))
    }
}

fn size(key: &DecodingKey) -> usize {
    match key.kind() {
        DecodingKeyKind::SecretOrDer(der) => der.len(),
        DecodingKeyKind::RsaModulusExponent { n, .. } => n.len(),
    }
}

fn strong_enough(key: &DecodingKey) -> Result<(), KeyError> {
    match size(key) >= MIN_RSA_BYTES {
        true => Ok(()),
        false => Err(KeyError("has an RSA key of less than 2048 bits".to_owned())),
    }
}

/// Reads a JSON Web Key Set (RFC 7517).
pub(super) fn parse(text: &str) -> Result<Vec<Key>, KeyError> {
    let set: JwkSet =
        serde_json::from_str(text).map_err(|error| KeyError(format!("is no JSON Web Key Set: {error}")))?;
    if set.keys.len() > MAX_KEYS {
        return Err(KeyError(format!(
            "has {} keys, more than {MAX_KEYS}",
            set.keys.len()
        )));
    }
    let keys: Result<Vec<_>, _> = set.keys.iter().map(Key::from_jwk).collect();
    let keys: Vec<_> = keys?.into_iter().flatten().collect();
    match keys.is_empty() {
        true => Err(KeyError("has no key for RS256, ES256 or EdDSA".to_owned())),
        false => Ok(keys),
    }
}

/// A file of keys that is read again when it changes, so that keys can be exchanged while the server runs.
pub(super) struct KeyFile {
    path: PathBuf,
    read: Mutex<Read>,
}

/// What tells one content of a file from the next: a file that is replaced may have the size and the time of the old one, but not
/// its number and the time of its last change of any kind.
type Version = (SystemTime, u64, (u64, i64, i64));

struct Read {
    keys: Arc<Vec<Key>>,
    version: Option<Version>,
    looked_at: SystemTime,
}

impl KeyFile {
    /// Reads the file for the first time.
    pub(super) fn open(path: &Path) -> Result<Self, KeyError> {
        let version = version(path)?;
        let keys = Arc::new(read(path)?);
        Ok(Self {
            path: path.to_owned(),
            read: Mutex::new(Read {
                keys,
                version: Some(version),
                looked_at: SystemTime::UNIX_EPOCH,
            }),
        })
    }

    /// The keys as they are now. A file that cannot be read leaves those that were read last.
    pub(super) fn keys(&self, now: SystemTime) -> Arc<Vec<Key>> {
        let mut last = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = now
            .duration_since(last.looked_at)
            .is_ok_and(|age| age < LOOK_AGAIN);
        if !is_fresh {
            last.looked_at = now;
            let found = version(&self.path);
            if found.as_ref().ok() != last.version.as_ref() {
                match found.clone().and_then(|_| read(&self.path)) {
                    Ok(keys) => {
                        tracing::info!(keys = keys.len(), "the keys of tokens have been exchanged");
                        last.keys = Arc::new(keys);
                    }
                    Err(error) => {
                        tracing::error!(%error, file = %self.path.display(), "the file of keys cannot be used; the last ones stay");
                    }
                }
                // What is broken is not read again until it changes.
                last.version = found.ok();
            }
        }
        last.keys.clone()
    }
}

fn version(path: &Path) -> Result<Version, KeyError> {
    let unreadable = |error| KeyError(format!("cannot be read: {error}"));
    let about = fs::metadata(path).map_err(unreadable)?;
    let identity = (about.ino(), about.ctime(), about.ctime_nsec());
    Ok((about.modified().map_err(unreadable)?, about.len(), identity))
}

fn read(path: &Path) -> Result<Vec<Key>, KeyError> {
    if version(path)?.1 > MAX_FILE_BYTES {
        return Err(KeyError(format!("is larger than {MAX_FILE_BYTES} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|error| KeyError(format!("cannot be read: {error}")))?;
    parse(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(name: &str) -> String {
        fs::read_to_string(format!("{}/tests/keys/{name}", env!("CARGO_MANIFEST_DIR"))).expect("a key")
    }

    #[test]
    fn every_key_of_a_pem_counts_and_what_is_none_says_what_to_do() {
        let both = format!("{}\n{}", pem("p256.public.pem"), pem("ed25519.public.pem"));
        for text in [
            both.clone(),
            both.replace('\n', "\\n"),
            both.replace('\n', "\r\n"),
        ] {
            let keys = Key::from_pem(&text).expect("two keys");
            let algorithms: Vec<_> = keys.iter().flat_map(|key| &key.algorithms).collect();
            assert_eq!(algorithms, [&Algorithm::ES256, &Algorithm::EdDSA]);
        }
        let problem = |text: &str| match Key::from_pem(text) {
            Ok(_) => panic!("{text}"),
            Err(error) => error.to_string(),
        };
        for private in ["rsa.pem", "p256.pem", "ed25519.pem"] {
            assert!(
                problem(&pem(private)).starts_with("is a private key"),
                "{private}"
            );
        }
        let mixed = format!("{}{}", pem("rsa.public.pem"), pem("p256.pem"));
        assert!(problem(&mixed).starts_with("is a private key"));
        let second = format!("{}{}", pem("p256.public.pem"), pem("p384.public.pem"));
        assert!(problem(&second).contains("number 2 is a key on another curve"));
        assert!(problem("-----BEGIN CERTIFICATE-----").starts_with("is a certificate"));
        assert!(problem("nonsense").starts_with("is no public key"));
        assert!(problem("").starts_with("is no public key"));
    }

    #[test]
    fn a_file_that_is_replaced_by_one_of_the_same_size_and_time_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, next) = (folder.path().join("keys"), folder.path().join("next"));
        let set = |kid: &str| {
            format!(
                r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","alg":"Ed25519","kid":"{kid}","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}]}}"#
            )
        };
        fs::write(&path, set("a")).expect("a file");
        let file = KeyFile::open(&path).expect("keys");
        let id = |now| file.keys(now).first().and_then(|key| key.id.clone());
        let now = crate::auth::now();
        assert_eq!(id(now).as_deref(), Some("a"));
        let time = fs::metadata(&path)
            .and_then(|about| about.modified())
            .expect("a time");
        fs::write(&next, set("b")).expect("a file");
        let replaced = fs::File::options().write(true).open(&next).expect("a file");
        replaced.set_modified(time).expect("a time");
        fs::rename(&next, &path).expect("a file");
        assert_eq!(id(now + LOOK_AGAIN).as_deref(), Some("b"));
    }
}
