//! What a publisher wants done to the headers that pass: set, added, taken off. Never those on which the framing of
//! messages, the choice of the host or the visitor's address rest.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::headers;

/// Changes to one direction's headers, applied in this order: removed, set, added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
}

/// A header that rules may not touch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("header {0} is the edge's own business")]
pub struct Untouchable(HeaderName);

impl Edits {
    /// Takes a header off.
    pub fn remove(mut self, name: HeaderName) -> Result<Self, Untouchable> {
        self.remove.push(touchable(name)?);
        Ok(self)
    }

    /// Sets a header in place of all of its name.
    pub fn set(mut self, name: HeaderName, value: HeaderValue) -> Result<Self, Untouchable> {
        self.set.push((touchable(name)?, value));
        Ok(self)
    }

    /// Adds a header to those of its name.
    pub fn add(mut self, name: HeaderName, value: HeaderValue) -> Result<Self, Untouchable> {
        self.add.push((touchable(name)?, value));
        Ok(self)
    }

    pub(super) fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}

fn touchable(name: HeaderName) -> Result<HeaderName, Untouchable> {
    let framing = [header::HOST, header::CONTENT_LENGTH, header::TRAILER, header::EXPECT].contains(&name);
    if framing || headers::is_hop_by_hop(&name) || headers::is_claim(name.as_str()) {
        return Err(Untouchable(name));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: HeaderName = HeaderName::from_static("x-a");

    #[test]
    fn headers_are_removed_set_and_added() {
        let value = HeaderValue::from_static;
        let edits = Edits::default()
            .remove(header::SERVER)
            .and_then(|edits| edits.set(A, value("set")))
            .and_then(|edits| edits.add(A, value("added")))
            .unwrap();
        let lines =
            [(A, value("1")), (A, value("2")), (header::SERVER, value("x")), (header::VARY, value("*"))];
        let mut headers: HeaderMap = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, value);
        }
        edits.apply(&mut headers);
        assert_eq!(headers.get_all(A).iter().collect::<Vec<_>>(), ["set", "added"]);
        assert!(!headers.contains_key(header::SERVER) && headers.contains_key(header::VARY));
    }

    #[test]
    fn framing_host_and_forwarding_are_untouchable() {
        for name in
            ["host", "content-length", "transfer-encoding", "connection", "te", "upgrade", "x-forwarded-for"]
        {
            let name = HeaderName::from_static(name);
            assert_eq!(Edits::default().remove(name.clone()), Err(Untouchable(name)));
        }
    }
}
