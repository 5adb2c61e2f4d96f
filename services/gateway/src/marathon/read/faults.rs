//! Errors of a read, and the typed reads of single values that report them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::marathon::error::ApiError;

/// A value and where it stands: `/container/volumes(0)/mode`.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    pub(super) path: String,
    pub(super) value: &'a Value,
}

/// A field of an object; none when it is absent or `null`.
pub(super) fn field<'a>(object: &'a Map<String, Value>, base: &str, name: &str) -> Option<Field<'a>> {
    let value = object.get(name).filter(|value| !value.is_null())?;
    Some(Field { path: format!("{base}/{name}"), value })
}

/// What is wrong, by path.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Codes of what could not be read.
    unread: BTreeMap<String, Vec<String>>,
    /// Messages of rules that do not hold.
    invalid: BTreeMap<String, Vec<String>>,
}

impl Faults {
    /// The value cannot be read.
    pub(super) fn read(&mut self, path: &str, code: &str) {
        push(&mut self.unread, path, code);
    }

    /// The value breaks a rule.
    pub(super) fn invalid(&mut self, path: &str, message: &str) {
        push(&mut self.invalid, path, message);
    }

    /// An error when there was any fault. What cannot be read comes before what is not valid.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        let (message, faults) = match (self.unread.is_empty(), self.invalid.is_empty()) {
            (true, true) => return Ok(()),
            (false, _) => ("Invalid JSON", self.unread),
            (true, false) => ("Object is not valid", self.invalid),
        };
        let details = faults.into_iter().map(|(path, errors)| json!({"path": path, "errors": errors}));
        Err(ApiError::unprocessable(json!({"message": message, "details": details.collect::<Value>()})))
    }

    pub(super) fn string(&mut self, found: &Field<'_>) -> Option<String> {
        let text = found.value.as_str().map(str::to_owned);
        self.expect(text, found, "error.expected.jsstring")
    }

    /// A string whose length in characters lies in these bounds.
    pub(super) fn text(&mut self, found: &Field<'_>, shortest: usize, longest: usize) -> Option<String> {
        let text = self.string(found)?;
        let length = text.chars().count();
        if length < shortest {
            self.read(&found.path, "error.minLength");
        } else if length > longest {
            self.read(&found.path, "error.maxLength");
        }
        Some(text)
    }

    /// One of a few words, in any case.
    pub(super) fn word<T: Copy>(&mut self, found: &Field<'_>, words: &[(&str, T)]) -> Option<T> {
        let text = self.string(found)?;
        let known = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(&text));
        if known.is_none() {
            self.read(&found.path, "error.unknown.enum.literal");
        }
        known.map(|(_, meaning)| *meaning)
    }

    /// A field that must be there.
    pub(super) fn required<'a>(
        &mut self,
        object: &'a Map<String, Value>,
        base: &str,
        name: &str,
    ) -> Option<Field<'a>> {
        let found = field(object, base, name);
        if found.is_none() {
            self.read(&format!("{base}/{name}"), "error.path.missing");
        }
        found
    }

    pub(super) fn boolean(&mut self, found: &Field<'_>) -> Option<bool> {
        self.expect(found.value.as_bool(), found, "error.expected.jsboolean")
    }

    /// A number within these bounds.
    pub(super) fn number(&mut self, found: &Field<'_>, min: f64, max: f64) -> Option<f64> {
        let number = self.expect(found.value.as_f64(), found, "error.expected.jsnumber")?;
        if number < min {
            self.read(&found.path, "error.min");
        } else if number > max {
            self.read(&found.path, "error.max");
        }
        Some(number)
    }

    /// A whole number from `min` to `max`.
    pub(super) fn integer_from<T>(&mut self, found: &Field<'_>, min: T, max: T) -> Option<T>
    where
        T: TryFrom<u64> + Into<u64> + PartialOrd,
    {
        let number = self.integer(found, max)?;
        if number < min {
            self.read(&found.path, "error.min");
        }
        Some(number)
    }

    /// A whole number from 0 to `max`.
    pub(super) fn integer<T>(&mut self, found: &Field<'_>, max: T) -> Option<T>
    where
        T: TryFrom<u64> + Into<u64>,
    {
        let number = self.expect(found.value.as_number(), found, "error.expected.jsnumber")?;
        let whole = number.as_u64().or_else(|| number.as_f64().and_then(whole));
        let problem = match (whole, number.as_f64()) {
            (Some(value), _) if value <= max.into() => return T::try_from(value).ok(),
            (Some(_), _) => "error.max",
            (None, Some(value)) if value.fract() != 0.0 => "error.expected.int",
            (None, Some(value)) if value > 0.0 => "error.max",
            (None, _) => "error.min",
        };
        self.read(&found.path, problem);
        None
    }

    pub(super) fn object<'a>(&mut self, found: &Field<'a>) -> Option<&'a Map<String, Value>> {
        self.expect(found.value.as_object(), found, "error.expected.jsobject")
    }

    /// The elements of an array, `null` ones too.
    pub(super) fn list<'a>(&mut self, found: &Field<'a>) -> Option<Vec<Field<'a>>> {
        let items = self.expect(found.value.as_array(), found, "error.expected.jsarray")?;
        let item = |(place, value)| Field { path: format!("{}({place})", found.path), value };
        Some(items.iter().enumerate().map(item).collect())
    }

    pub(super) fn string_list(&mut self, found: &Field<'_>) -> Option<Vec<String>> {
        let items = self.list(found)?;
        Some(items.iter().filter_map(|item| self.string(item)).collect())
    }

    /// The entries of an object, as fields.
    pub(super) fn entries<'a>(&mut self, found: &Field<'a>) -> Option<Vec<(&'a str, Field<'a>)>> {
        let object = self.object(found)?;
        let entry = |(name, value): (&'a String, &'a Value)| {
            (name.as_str(), Field { path: format!("{}/{name}", found.path), value })
        };
        Some(object.iter().map(entry).collect())
    }

    fn expect<T>(&mut self, value: Option<T>, found: &Field<'_>, code: &str) -> Option<T> {
        if value.is_none() {
            let path = if found.path.is_empty() { "/" } else { &found.path };
            self.read(path, code);
        }
        value
    }
}

fn push(faults: &mut BTreeMap<String, Vec<String>>, path: &str, text: &str) {
    let errors = faults.entry(path.to_owned()).or_default();
    if !errors.iter().any(|known| known == text) {
        errors.push(text.to_owned());
    }
}

/// `2.0` is a whole number.
fn whole(value: f64) -> Option<u64> {
    // Above 2^53 a double no longer tells neighbours apart.
    let fits = value.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&value);
    fits.then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integer(value: Value) -> Result<Option<u32>, Value> {
        let mut faults = Faults::default();
        let read = faults.integer(&Field { path: "/n".to_owned(), value: &value }, 10_u32);
        faults.finish().map(|()| read).map_err(|error| error.body["details"][0]["errors"][0].clone())
    }

    #[test]
    fn whole_numbers_are_not_rounded() {
        assert_eq!(integer(json!(7)), Ok(Some(7)));
        assert_eq!(integer(json!(7.0)), Ok(Some(7)));
        assert_eq!(integer(json!(1.5)), Err(json!("error.expected.int")));
        assert_eq!(integer(json!(-1)), Err(json!("error.min")));
        assert_eq!(integer(json!(11)), Err(json!("error.max")));
        assert_eq!(integer(json!(1e300)), Err(json!("error.max")));
        assert_eq!(integer(json!("7")), Err(json!("error.expected.jsnumber")));
    }
}
