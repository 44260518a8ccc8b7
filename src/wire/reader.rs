//! Reads bodies: the encoding of PROTOCOL §3.6 and, beyond it, of every serde type that bincode 2 `config::standard()` writes.
//!
//! Of its own, because bincode's reader refuses integers that are wider than they need to be, and trusts the number of items that
//! a list claims: twelve bytes make it allocate a megabyte. This one takes no claim above the bytes that are left.

use std::{borrow::Cow, fmt};

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};

use super::codec::peek_integer;

/// Deepest nesting of structs, lists and variants. Only a recursive type comes near it, and without it bytes alone could exhaust
/// the stack.
const MAX_DEPTH: usize = 128;

/// Reads a value to the last byte of `body`.
///
/// What it holds at once is 72 times `body` at most, and 48 times up to 40 KiB: an item of a list takes a byte or more of `body`,
/// and 24 bytes (`String`) or 48 (`AutoSubscription`) of memory. serde reserves as much as the list claims, 1 MiB at most, and
/// doubles from there. A type of an application has larger items, perhaps, and so its own factor.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let mut reader = Reader {
        rest: body,
        depth: 0,
    };
    let value = T::deserialize(&mut reader)?;
    match reader.rest.len() {
        0 => Ok(value),
        left => Err(Error(format!("{left} bytes after its end").into())),
    }
}

/// Why a body does not decode, for people.
#[derive(Debug)]
pub(super) struct Error(Cow<'static, str>);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self(reason.to_string().into())
    }
}

const CUT_OFF: Error = Error(Cow::Borrowed("it is cut off"));
const NO_SELF_DESCRIPTION: Error = Error(Cow::Borrowed("the encoding does not describe itself"));

struct Reader<'b> {
    rest: &'b [u8],
    depth: usize,
}

impl<'b> Reader<'b> {
    fn take(&mut self, length: usize) -> Result<&'b [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(CUT_OFF)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// An unsigned integer of any width that fits into `T`.
    fn integer<T: TryFrom<u64>>(&mut self) -> Result<T, Error> {
        let (value, width) = peek_integer(self.rest)
            .map_err(|error| Error(error.to_string().into()))?
            .ok_or(CUT_OFF)?;
        self.take(width)?;
        value
            .try_into()
            .map_err(|_| Error(format!("{value} is above what its type holds").into()))
    }

    /// An integer of up to 128 bits: marker 254 and 16 bytes, beside what [`Self::integer`] takes.
    fn wide_integer(&mut self) -> Result<u128, Error> {
        if self.rest.first() == Some(&254) {
            self.take(1)?;
            return Ok(u128::from_le_bytes(self.array()?));
        }
        self.integer::<u64>().map(u128::from)
    }

    /// A signed integer: 0, -1, 1, -2 … are written as 0, 1, 2, 3 …
    fn signed_integer<T: TryFrom<i128>>(&mut self) -> Result<T, Error> {
        let zigzag = self.wide_integer()?;
        let value = (zigzag >> 1) as i128 ^ -((zigzag & 1) as i128);
        value
            .try_into()
            .map_err(|_| Error(format!("{value} is beyond what its type holds").into()))
    }

    /// A number of bytes, or of items that take a byte or more each: what is left bounds both.
    fn length(&mut self) -> Result<usize, Error> {
        let length = self.integer()?;
        if length > self.rest.len() {
            return Err(CUT_OFF);
        }
        Ok(length)
    }

    fn text(&mut self) -> Result<&'b str, Error> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?).map_err(|error| Error(error.to_string().into()))
    }

    fn character(&mut self) -> Result<char, Error> {
        let character = (1..=4)
            .filter_map(|width| std::str::from_utf8(self.rest.get(..width)?).ok())
            .find_map(|text| text.chars().next())
            .ok_or_else(|| Error("no character of UTF-8".into()))?;
        self.take(character.len_utf8())?;
        Ok(character)
    }

    fn tag(&mut self) -> Result<bool, Error> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(Error(format!("{other} is neither 0 nor 1").into())),
        }
    }

    fn nested<T>(
        &mut self,
        inside: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.depth == MAX_DEPTH {
            return Err(Error("it is nested too deeply".into()));
        }
        self.depth += 1;
        let result = inside(self);
        self.depth -= 1;
        result
    }

    fn items<V: Visitor<'b>>(&mut self, left: usize, visitor: V) -> Result<V::Value, Error> {
        self.nested(|reader| visitor.visit_seq(Items { reader, left }))
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $read:expr;)*) => {$(
        fn $method<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, Error> {
            let read: fn(&mut Reader<'b>) -> Result<_, Error> = $read;
            visitor.$visit(read(self)?)
        }
    )*};
}

impl<'b> Deserializer<'b> for &mut Reader<'b> {
    type Error = Error;

    numbers! {
        deserialize_bool visit_bool Reader::tag;
        deserialize_u8 visit_u8 |reader| reader.array().map(u8::from_le_bytes);
        deserialize_u16 visit_u16 Reader::integer;
        deserialize_u32 visit_u32 Reader::integer;
        deserialize_u64 visit_u64 Reader::integer;
        deserialize_u128 visit_u128 Reader::wide_integer;
        deserialize_i8 visit_i8 |reader| reader.array().map(i8::from_le_bytes);
        deserialize_i16 visit_i16 Reader::signed_integer;
        deserialize_i32 visit_i32 Reader::signed_integer;
        deserialize_i64 visit_i64 Reader::signed_integer;
        deserialize_i128 visit_i128 Reader::signed_integer;
        deserialize_f32 visit_f32 |reader| reader.array().map(f32::from_le_bytes);
        deserialize_f64 visit_f64 |reader| reader.array().map(f64::from_le_bytes);
        deserialize_char visit_char Reader::character;
        deserialize_str visit_borrowed_str Reader::text;
        deserialize_string visit_borrowed_str Reader::text;
    }

    fn deserialize_bytes<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, Error> {
        let length = self.length()?;
        visitor.visit_borrowed_bytes(self.take(length)?)
    }

    fn deserialize_byte_buf<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.tag()? {
            visitor.visit_some(self)
        } else {
            visitor.visit_none()
        }
    }

    fn deserialize_unit<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'b>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'b>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.nested(|reader| visitor.visit_newtype_struct(reader))
    }

    fn deserialize_seq<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, Error> {
        let length = self.length()?;
        self.items(length, visitor)
    }

    fn deserialize_tuple<V: Visitor<'b>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.items(length, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'b>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.items(length, visitor)
    }

    fn deserialize_struct<V: Visitor<'b>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.items(fields.len(), visitor)
    }

    fn deserialize_map<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, Error> {
        let left = self.length()?;
        self.nested(|reader| visitor.visit_map(Items { reader, left }))
    }

    fn deserialize_enum<V: Visitor<'b>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.nested(|reader| visitor.visit_enum(reader))
    }

    fn deserialize_any<V: Visitor<'b>>(self, _: V) -> Result<V::Value, Error> {
        Err(NO_SELF_DESCRIPTION)
    }

    fn deserialize_identifier<V: Visitor<'b>>(self, _: V) -> Result<V::Value, Error> {
        Err(NO_SELF_DESCRIPTION)
    }

    fn deserialize_ignored_any<V: Visitor<'b>>(self, _: V) -> Result<V::Value, Error> {
        Err(NO_SELF_DESCRIPTION)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The fields of a struct, the items of a list, or the pairs of a map.
struct Items<'r, 'b> {
    reader: &'r mut Reader<'b>,
    left: usize,
}

impl<'b> Items<'_, 'b> {
    fn next<S: DeserializeSeed<'b>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

impl<'b> SeqAccess<'b> for Items<'_, 'b> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'b>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        self.next(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'b> MapAccess<'b> for Items<'_, 'b> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'b>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        self.next(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'b>>(&mut self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(&mut *self.reader)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'b> EnumAccess<'b> for &mut Reader<'b> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'b>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        let number: u32 = self.integer()?;
        Ok((seed.deserialize(number.into_deserializer())?, self))
    }
}

impl<'b> VariantAccess<'b> for &mut Reader<'b> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'b>>(self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'b>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        self.items(length, visitor)
    }

    fn struct_variant<V: Visitor<'b>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.items(fields.len(), visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::super::codec::{decode_value, encode_value};

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Choice {
        Unit,
        New(Box<Option<Self>>),
        Tuple(i8, i16, i32, i64, i128),
        Struct {
            map: BTreeMap<u16, String>,
            unit: (),
        },
    }

    fn choice() -> impl Strategy<Value = Choice> {
        let leaf = prop_oneof![
            Just(Choice::Unit),
            any::<(i8, i16, i32, i64, i128)>()
                .prop_map(|(a, b, c, d, e)| Choice::Tuple(a, b, c, d, e)),
            any::<BTreeMap<u16, String>>().prop_map(|map| Choice::Struct { map, unit: () }),
        ];
        leaf.prop_recursive(4, 8, 1, |inner| {
            proptest::option::of(inner).prop_map(|inner| Choice::New(Box::new(inner)))
        })
    }

    proptest! {
        #[test]
        fn what_bincode_writes_is_read(
            choices in proptest::collection::vec(choice(), 0..4),
            numbers in any::<(u8, u16, u32, u64, u128)>(),
            floats in any::<(f32, f64)>(),
            rest in any::<(char, bool, Option<String>, [u8; 3], Vec<(i64, char)>)>(),
        ) {
            let value = (choices, numbers, floats, rest);
            prop_assert_eq!(decode_value(&encode_value(&value).unwrap()), Ok(value));
        }
    }

    #[test]
    fn the_ends_of_every_integer_are_read() {
        let value = (
            [i8::MIN, i8::MAX],
            [i16::MIN, i16::MAX],
            [i32::MIN, i32::MAX],
            [i64::MIN, i64::MAX],
            [i128::MIN, i128::MAX],
            [u128::MIN, u128::MAX],
        );
        assert_eq!(decode_value(&encode_value(&value).unwrap()), Ok(value));
        let wide = encode_value(&(i64::from(i32::MAX) + 1)).unwrap();
        assert!(decode_value::<i32>(&wide).is_err());
    }

    #[test]
    fn nesting_ends_before_the_stack_does() {
        let nested = |depth: usize| {
            // `New(Some(` again and again, then `Unit`.
            let mut body = [1, 1].repeat(depth);
            body.push(0);
            decode_value::<Choice>(&body)
        };
        assert!(nested(100).is_ok());
        let error = nested(1_000_000).unwrap_err().to_string();
        assert!(error.contains("nested too deeply"), "{error}");
    }

    #[test]
    fn items_that_take_no_bytes_are_not_counted_for_ever() {
        let body = encode_value(&(1_u64 << 62)).unwrap();
        assert!(decode_value::<Vec<()>>(&body).is_err());
    }
}
