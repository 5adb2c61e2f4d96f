//! Label selectors: `key`, `key == v`, `key != v`, `key in (a, b)`, `key notin (a, b)`, joined by commas. Pure.

use std::collections::BTreeMap;

/// All conditions must hold. A condition on an absent label never does, `!=` and `notin` included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selector(Vec<Condition>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    key: String,
    rule: Rule,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Present,
    In(Vec<String>),
    NotIn(Vec<String>),
}

impl Selector {
    /// Reads a selector; the error is the reason in `Can not parse label selector X. Reason: …`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { rest: text };
        let mut conditions = vec![parser.condition()?];
        while parser.take(",") {
            conditions.push(parser.condition()?);
        }
        if parser.rest.is_empty() { Ok(Self(conditions)) } else { Err(parser.expected("',' or the end")) }
    }

    pub(super) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|condition| match (labels.get(&condition.key), &condition.rule) {
            (None, _) => false,
            (Some(_), Rule::Present) => true,
            (Some(value), Rule::In(values)) => values.contains(value),
            (Some(value), Rule::NotIn(values)) => !values.contains(value),
        })
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn condition(&mut self) -> Result<Condition, String> {
        let key = self.term()?;
        let rule = if self.take("==") {
            Rule::In(vec![self.term()?])
        } else if self.take("!=") {
            Rule::NotIn(vec![self.term()?])
        } else if self.word("notin") {
            Rule::NotIn(self.set()?)
        } else if self.word("in") {
            Rule::In(self.set()?)
        } else {
            Rule::Present
        };
        Ok(Condition { key, rule })
    }

    fn set(&mut self) -> Result<Vec<String>, String> {
        if !self.take("(") {
            return Err(self.expected("'('"));
        }
        let mut values = vec![self.term()?];
        while self.take(",") {
            values.push(self.term()?);
        }
        if self.take(")") { Ok(values) } else { Err(self.expected("')'")) }
    }

    /// Letters, digits, `-`, `_`, `.`, and any other character behind a backslash.
    fn term(&mut self) -> Result<String, String> {
        self.skip_spaces();
        let mut term = String::new();
        let mut chars = self.rest.chars();
        while let Some(next) = chars.clone().next() {
            chars.next();
            match next {
                '\\' => match chars.next() {
                    Some(escaped) => term.push(escaped),
                    None => return Err(self.expected("a character after '\\'")),
                },
                c if c.is_ascii_alphanumeric() || "-_.".contains(c) => term.push(c),
                _ => break,
            }
            self.rest = chars.as_str();
        }
        if term.is_empty() { Err(self.expected("a label or value")) } else { Ok(term) }
    }

    /// Takes a token if it comes next.
    fn take(&mut self, token: &str) -> bool {
        self.skip_spaces();
        let taken = self.rest.strip_prefix(token);
        self.rest = taken.unwrap_or(self.rest);
        self.skip_spaces();
        taken.is_some()
    }

    /// Takes a word that a set must follow.
    fn word(&mut self, word: &str) -> bool {
        self.skip_spaces();
        let taken = self.rest.strip_prefix(word).filter(|rest| rest.starts_with([' ', '(', '\t']));
        self.rest = taken.unwrap_or(self.rest);
        taken.is_some()
    }

    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn expected(&self, what: &str) -> String {
        let found = if self.rest.is_empty() { "the end".to_owned() } else { format!("'{}'", self.rest) };
        format!("{what} expected but {found} found")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Selector::parse(selector).unwrap().matches(&labels)
    }

    #[test]
    fn marathon_c47_forms() {
        let db: &[(&str, &str)] = &[("tier", "db"), ("x", "1")];
        assert!(matches("tier", db) && !matches("none", db));
        assert!(matches("tier==db", db) && !matches("tier == web", db));
        assert!(!matches("tier!=db", db) && matches("tier != web", db));
        assert!(!matches("tier!=db", &[]), "an absent label does not match");
        assert!(matches("tier in (web, db)", db) && !matches("tier in (web)", db));
        assert!(matches("tier notin(web)", db) && !matches("tier notin (web,db)", db));
        assert!(matches(" tier , x == 1 ", db) && !matches("tier, x == 2", db));
        assert!(matches(r"tier!=frontend\ tier", &[("tier", "back")]));
        assert!(matches(r"a==b\,c", &[("a", "b,c")]));
        assert!(matches("in", &[("in", "")]) && matches("notin==1", &[("notin", "1")]));
    }

    #[test]
    fn marathon_c47_what_is_no_selector() {
        for text in ["", "a==", "a = b", "a in b", "a in (b", "a,,b", "a b", "a in ()", "\\"] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = Selector::parse(&text);
        }

        #[test]
        fn an_escaped_value_is_found(value in ".{1,12}") {
            let escaped: String = value.chars().flat_map(|c| ['\\', c]).collect();
            let selector = format!("k == {escaped}");
            proptest::prop_assert!(matches(&selector, &[("k", &value)]));
        }
    }
}
