//! Pages made of one content.

use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use pageroom_crdt::{ClientId, Document, Form, Format, Limits, Save, Update};
use serde_json::Value;

const FIELD: &str = "default";

/// A page that holds one content, saved in a form.
pub(crate) struct Page(Document);

impl Page {
    pub(crate) fn of(content: Value, format: Format) -> Self {
        let mut document = Document::new(Limits::default());
        let save = Save {
            content,
            format: Some(format),
            default_format: Format::Text,
            field: Some(FIELD.to_owned()),
            candidates: Vec::new(),
            had_current: false,
        };
        let merged = document.content().unwrap().merge(ClientId(7), &save).unwrap();
        if !merged.update.is_empty() {
            let update = Update::parse(Bytes::clone(&merged.update), &Limits::default()).unwrap();
            document.admit(update).unwrap();
        }
        Self(document)
    }

    pub(crate) fn of_markdown(markdown: &str) -> Self {
        Self::of(Value::from(markdown), Format::Markdown)
    }

    pub(crate) fn of_html(html: &str) -> Self {
        Self::of(Value::from(html), Format::Html)
    }

    /// As it is read over REST; nothing where nothing was saved.
    pub(crate) fn shown(&mut self, form: Form) -> String {
        let view = self.0.content().unwrap();
        view.shown(form, Some(FIELD)).unwrap().unwrap_or_default()
    }

    /// Its HTML with everything that is in it.
    pub(crate) fn html(&mut self) -> String {
        let view = self.0.content().unwrap();
        let html = view.whole(FIELD, Format::Html).unwrap().unwrap_or_default();
        html.as_str().unwrap_or_default().to_owned()
    }

    /// The content that tells whether two pages are equal.
    pub(crate) fn document(&mut self) -> Value {
        let view = self.0.content().unwrap();
        let document = view.whole(FIELD, Format::Prosemirror).unwrap();
        document.unwrap_or_else(|| serde_json::json!({ "type": "doc", "content": [] }))
    }

    /// Says of each form in which it does not come back as it is.
    pub(crate) fn lost_in(&mut self) -> Vec<Lost> {
        let document = self.document();
        let (markdown, html) = (self.shown(Form::Markdown), self.shown(Form::Html));
        let mut again = [
            ("markdown", markdown.clone(), Self::of_markdown(&markdown)),
            ("html", html.clone(), Self::of_html(&html)),
            ("all its html", self.html(), Self::of_html(&self.html())),
            (
                "prosemirror",
                document.to_string(),
                Self::of(document.clone(), Format::Prosemirror),
            ),
        ];
        let lost = again.iter_mut().filter_map(|(form, written, page)| {
            let now = page.document();
            (now != document).then(|| Lost {
                form,
                written: written.clone(),
                was: document.clone(),
                now,
            })
        });
        lost.collect()
    }
}

/// A form in which a page does not come back as it is.
pub(crate) struct Lost {
    pub(crate) form: &'static str,
    written: String,
    was: Value,
    now: Value,
}

impl fmt::Debug for Lost {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            form,
            written,
            was,
            now,
        } = self;
        writeln!(out, "{form}: {written:?}")?;
        tell(out, was, now, "")
    }
}

/// Tells where two contents differ.
fn tell(out: &mut fmt::Formatter<'_>, was: &Value, now: &Value, path: &str) -> fmt::Result {
    match (was, now) {
        (Value::Array(was), Value::Array(now)) if was.len() == now.len() => (was.iter().zip(now).enumerate())
            .try_for_each(|(at, (was, now))| tell(out, was, now, &format!("{path}/{at}"))),
        (Value::Object(was), Value::Object(now)) if was.keys().eq(now.keys()) => {
            (was.iter()).try_for_each(|(key, was)| tell(out, was, &now[key], &format!("{path}/{key}")))
        }
        (was, now) if was == now => Ok(()),
        (was, now) => writeln!(out, "at {path}\nwas {was}\nnow {now}"),
    }
}

pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/commonmark")
        .join(name)
}
