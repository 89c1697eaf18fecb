//! Owns the macros for values that the spool, exports and replies write and read by their names.

/// Implements the traits of serde for a type that has `ALL` and `name()`. An unknown name is an
/// error.
macro_rules! serde_by_name {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                let known = Self::ALL.iter().copied().find(|known| known.name() == name);
                known.ok_or_else(|| serde::de::Error::custom("an unknown name"))
            }
        }
    };
}

/// Defines an enum whose values are written by their names.
macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident => $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$item_doc])* $item,)+
        }

        impl $name {
            /// Every value of the enum.
            pub const ALL: &'static [Self] = &[$(Self::$item,)+];

            /// Returns the name, as it is stored and shown.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$item => $text,)+ }
            }

            /// Reads a name. Returns `None` if no value has it.
            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.name() == name)
            }
        }

        $crate::domain::by_name::serde_by_name!($name);
    };
}

pub(super) use {names, serde_by_name};
