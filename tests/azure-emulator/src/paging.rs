//! Pages of a list, by `$top` and `$skiptoken`.

use std::num::NonZeroUsize;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::arm_error::ArmError;

/// One page of items in the order of their keys.
#[derive(Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// Items of this page.
    pub items: Vec<T>,
    /// `$skiptoken` of the next page; none after the last item.
    pub next: Option<String>,
}

/// What a list request asks for.
#[derive(Debug)]
pub struct PageRequest {
    after: Option<String>,
    size: usize,
}

impl PageRequest {
    /// Reads the query options; `limit` is the server's own page size.
    pub fn new(
        top: Option<&str>,
        skip_token: Option<&str>,
        limit: NonZeroUsize,
    ) -> Result<Self, ArmError> {
        let size = match top {
            None => limit,
            Some(text) => text
                .parse::<NonZeroUsize>()
                .map_err(|_| ArmError::bad_request(format!("The $top value '{text}' is invalid.")))?
                .min(limit),
        };
        let after = skip_token
            .map(|token| {
                decode(token).ok_or_else(|| {
                    ArmError::bad_request(format!("The $skiptoken value '{token}' is invalid."))
                })
            })
            .transpose()?;
        Ok(Self {
            after,
            size: size.get(),
        })
    }

    /// Cuts the page out of items sorted by key. The token holds the last key
    /// and not a position, so that a deletion between two pages skips nothing.
    pub fn cut<'a, T>(&self, sorted: impl Iterator<Item = (&'a String, T)>) -> Page<T> {
        let mut rest =
            sorted.filter(|(key, _)| self.after.as_ref().is_none_or(|after| *key > after));
        let mut last = None;
        let items = rest
            .by_ref()
            .take(self.size)
            .map(|(key, item)| {
                last = Some(key);
                item
            })
            .collect();
        let next = rest.next().and(last).map(|key| URL_SAFE_NO_PAD.encode(key));
        Page { items, next }
    }
}

fn decode(token: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn numbered(count: usize) -> BTreeMap<String, usize> {
        (0..count).map(|n| (format!("{n:02}"), n)).collect()
    }

    fn cut(request: &PageRequest, items: &BTreeMap<String, usize>) -> Page<usize> {
        request.cut(items.iter().map(|(key, n)| (key, *n)))
    }

    fn request(top: Option<&str>, token: Option<&str>, limit: usize) -> PageRequest {
        PageRequest::new(top, token, NonZeroUsize::new(limit).unwrap()).unwrap()
    }

    #[test]
    fn pages_together_hold_every_item_once() {
        for (count, size, pages) in [(0, 2, 1), (1, 2, 1), (2, 2, 1), (3, 2, 2), (20, 3, 7)] {
            let items = numbered(count);
            let (mut seen, mut turned, mut token) = (Vec::new(), 0, None::<String>);
            loop {
                let page = cut(&request(None, token.as_deref(), size), &items);
                seen.extend(page.items);
                turned += 1;
                token = page.next;
                if token.is_none() {
                    break;
                }
            }
            assert_eq!(turned, pages, "{count} by {size}");
            assert!(seen.iter().eq(items.values()), "{count} by {size}");
        }
    }

    #[test]
    fn top_cannot_exceed_the_servers_page_size() {
        let items = numbered(9);
        assert_eq!(cut(&request(Some("2"), None, 5), &items).items.len(), 2);
        assert_eq!(cut(&request(Some("8"), None, 5), &items).items.len(), 5);
    }

    #[test]
    fn a_deletion_between_pages_skips_nothing() {
        let mut items = numbered(4);
        let first = cut(&request(None, None, 2), &items);
        assert_eq!(first.items, [0, 1]);
        items.remove("00");
        let second = cut(&request(None, first.next.as_deref(), 2), &items);
        assert_eq!(second.items, [2, 3]);
    }

    #[test]
    fn bad_options_are_refused() {
        let limit = NonZeroUsize::MIN;
        for (top, token) in [(Some("0"), None), (Some("x"), None), (None, Some("***"))] {
            assert!(
                PageRequest::new(top, token, limit).is_err(),
                "{top:?} {token:?}"
            );
        }
    }
}
