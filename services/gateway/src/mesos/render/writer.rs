//! JSON text written piece by piece: a large cluster as one tree would take many times the memory of its text.

use serde::Serialize;
use serde_json::{Map, Value};

/// A value, appended as text.
pub(in crate::mesos) fn put(out: &mut Vec<u8>, value: &impl Serialize) {
    if serde_json::to_writer(&mut *out, value).is_err() {
        // Trees, texts and numbers can be written; a key that is none could not.
        out.extend_from_slice(b"null");
    }
}

/// An object that is being written; [`Object::end`] closes it.
pub(in crate::mesos) struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    pub(in crate::mesos) fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    fn key(&mut self, key: &str) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        put(self.out, &key);
        self.out.push(b':');
    }

    pub(in crate::mesos) fn put(&mut self, key: &str, value: &impl Serialize) {
        self.key(key);
        put(self.out, value);
    }

    pub(in crate::mesos) fn put_all(&mut self, fields: &Map<String, Value>) {
        fields.iter().for_each(|(key, value)| self.put(key, value));
    }

    /// An object whose fields `write` puts.
    pub(in crate::mesos) fn object(&mut self, key: &str, write: impl FnOnce(&mut Object<'_>)) {
        self.key(key);
        let mut object = Object::begin(self.out);
        write(&mut object);
        object.end();
    }

    /// An array whose elements `write` appends one by one.
    pub(in crate::mesos) fn list<T>(
        &mut self,
        key: &str,
        items: impl Iterator<Item = T>,
        write: impl Fn(T, &mut Vec<u8>),
    ) {
        self.key(key);
        self.out.push(b'[');
        for (place, item) in items.enumerate() {
            if place > 0 {
                self.out.push(b',');
            }
            write(item, self.out);
        }
        self.out.push(b']');
    }

    pub(in crate::mesos) fn end(self) {
        self.out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pieces_make_an_object() {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        object.put("a\"b", &1.0);
        object.put_all(json!({"x": [true, null]}).as_object().unwrap());
        object.list("none", std::iter::empty::<u32>(), |_, _| {});
        object.object("inner", |inner| inner.put("y", &1));
        object.list("some", 0..2, |number, out| put(out, &number));
        object.end();
        assert_eq!(out, br#"{"a\"b":1.0,"x":[true,null],"none":[],"inner":{"y":1},"some":[0,1]}"#);
        let mut empty = Vec::new();
        Object::begin(&mut empty).end();
        assert_eq!(empty, b"{}");
    }
}
