//! Settings that take one word of a few. It refuses other words by naming the ones there are.

use serde::{Serialize, Serializer};

use super::{
    mistake::closest,
    setting::{Raw, Setting},
};

/// Defines an enum whose values have one spelling each in the file.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$variant_meta])* $variant),+ }

        impl $name {
            const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word for it in the file.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            fn of_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

/// Reads a choice that has nothing special to say about wrong words.
macro_rules! plain_setting {
    ($($name:ident),+) => {
        $(impl Setting for $name {
            fn read(raw: Raw<'_>) -> Result<Self, String> {
                let word = raw.text()?;
                Self::of_word(word).ok_or_else(|| refused(word, Self::WORDS))
            }
        })+
    };
}

choice! {
    /// The protocol between nodes.
    Protocol { Quic = "quic" }
}
choice! {
    /// The only version of TLS spoken.
    TlsVersion { V1_3 = "1.3" }
}
choice! {
    /// How nodes agree.
    Algorithm { Tendermint = "tendermint", Pbft = "pbft" }
}
choice! {
    /// What seals data at rest.
    Encryption { XChaCha20Poly1305 = "xchacha20-poly1305" }
}
choice! {
    /// What signs.
    Signature { Ed25519 = "ed25519" }
}
choice! {
    /// What turns a passphrase into a key.
    KeyDerivation { Argon2 = "argon2" }
}
choice! {
    /// Where the state is kept.
    Backend { Redb = "redb", Memory = "memory" }
}
choice! {
    /// Which machine monitor runs microVMs.
    Vmm { Auto = "auto", Firecracker = "firecracker", CloudHypervisor = "cloud-hypervisor", Qemu = "qemu" }
}
choice! {
    /// Where the certificates of the ingress come from.
    IngressTlsChoice { Off = "off", Files = "files", Development = "development", Acme = "acme" }
}
choice! {
    /// How much the agent says.
    LogLevel { Error = "error", Warn = "warn", Info = "info", Debug = "debug", Trace = "trace" }
}
choice! {
    /// Lines for people or objects for programs.
    LogFormat { Text = "text", Json = "json" }
}

plain_setting!(
    Protocol,
    TlsVersion,
    Algorithm,
    Encryption,
    Signature,
    KeyDerivation,
    Vmm,
    IngressTlsChoice,
    LogLevel,
    LogFormat
);

impl Setting for Backend {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        let word = raw.text()?;
        Self::of_word(word).ok_or_else(|| match word {
            "rocksdb" | "sled" => {
                format!("`{word}` is no backend of Hypercore: write \"redb\", which replaces it")
            }
            _ => refused(word, Self::WORDS),
        })
    }
}

fn refused(word: &str, words: &[&str]) -> String {
    let all = words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let only = if words.len() == 1 { "the only choice is" } else { "the choices are" };
    match closest(word, words.iter().copied()) {
        Some(close) if words.len() > 1 => {
            format!("`{word}` is not known: did you mean \"{close}\"? ({only} {all})")
        }
        _ => format!("`{word}` is not known: {only} {all}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_word_is_told_the_right_ones() {
        let told = LogLevel::read(Raw::Env("inof")).unwrap_err();
        assert!(told.starts_with("`inof` is not known: did you mean \"info\"?"), "{told}");
        assert_eq!(
            Protocol::read(Raw::Env("tcp")).unwrap_err(),
            "`tcp` is not known: the only choice is \"quic\""
        );
    }

    #[test]
    fn other_backends_are_refused_with_the_replacement_named() {
        for word in ["rocksdb", "sled"] {
            assert!(Backend::read(Raw::Env(word)).unwrap_err().contains("\"redb\""));
        }
    }
}
