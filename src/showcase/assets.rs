//! The files of the page, built into the binary. Knows their names and types, nothing of the weather.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use super::routes::Shared;

/// One file.
pub struct Asset {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! asset {
    ($path:literal, $kind:literal, $file:literal) => {
        Asset { path: $path, kind: $kind, bytes: include_bytes!(concat!("page/", $file)) }
    };
}

/// Everything that is served as it is; 300 KB in all at most.
const ASSETS: &[Asset] = &[
    asset!("/", "text/html; charset=utf-8", "index.html"),
    asset!("/style.css", "text/css; charset=utf-8", "style.css"),
    asset!("/app.js", "text/javascript; charset=utf-8", "app.js"),
];

/// A route for each file.
pub fn routes() -> Router<Arc<Shared>> {
    ASSETS.iter().fold(Router::new(), |router, asset| {
        let tag = format!("\"{:08x}\"", crc32fast::hash(asset.bytes));
        router.route(asset.path, get(async move |headers: HeaderMap| asset.answer(&tag, &headers)))
    })
}

impl Asset {
    /// The browser keeps the file and asks each time whether it is still the one: `304` costs 200 bytes, and
    /// an upgraded station never shows half of the old page.
    fn answer(&self, tag: &str, request: &HeaderMap) -> Response {
        let common = [(header::ETAG, tag), (header::CACHE_CONTROL, "no-cache")];
        if request.get(header::IF_NONE_MATCH).is_some_and(|seen| seen.as_bytes() == tag.as_bytes()) {
            return (StatusCode::NOT_MODIFIED, common).into_response();
        }
        (common, [(header::CONTENT_TYPE, self.kind)], self.bytes).into_response()
    }
}
