//! Enumerations whose values have one name each, which is used in the database, JSON, logs and listings.

/// Declares an enumeration with the names of its values. Reading an unknown name fails.
macro_rules! named {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $value:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$doc])* $value,)+
        }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$value),+];

            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$value => $text,)+
                }
            }

            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|it| it.name() == name)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
                Self::from_name(&name).ok_or_else(|| {
                    let known: Vec<_> = Self::ALL.iter().map(|it| it.name()).collect();
                    let known = known.join(", ");
                    serde::de::Error::custom(format!("\"{name}\" is not one of {known}"))
                })
            }
        }
    };
}

pub(crate) use named;

#[cfg(test)]
mod tests {
    use crate::{MailboxState, ThreadMethod, TroubleKind};

    #[test]
    fn every_value_is_read_by_its_name() {
        for kind in TroubleKind::ALL {
            let json = serde_json::to_string(kind).unwrap();
            assert_eq!(json, format!("\"{}\"", kind.name()));
            assert_eq!(serde_json::from_str::<TroubleKind>(&json).unwrap(), *kind);
        }
        for state in MailboxState::ALL {
            assert_eq!(MailboxState::from_name(state.name()), Some(*state));
        }
        let unknown = serde_json::from_str::<ThreadMethod>("\"guess\"").unwrap_err();
        assert!(
            unknown
                .to_string()
                .starts_with("\"guess\" is not one of reply-token, own-message-id")
        );
    }
}
