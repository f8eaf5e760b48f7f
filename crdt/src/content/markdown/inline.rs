//! What is in a line as Markdown: which marks are put around which stretches of it, and how each is written so that it is read again.

use comrak::nodes::{NodeCode, NodeLink, NodeValue};
use serde_json::Value;

use super::marks::{Mark, Side, Sign, address, shown, title};
use super::write::{Parent, Place, Tree, html_in_line};
use crate::content::html;
use crate::content::nodes::{Node, Run, Unit, runs};

/// A part of a line in which nothing changes.
enum Piece<'u> {
    Text {
        text: String,
        is_code: bool,
        marks: Vec<Mark>,
    },
    Node(&'u Node),
}

impl Piece<'_> {
    fn marks(&self) -> &[Mark] {
        match self {
            Self::Text { marks, .. } => marks,
            Self::Node(_) => &[],
        }
    }

    fn side(&self, is_start: bool) -> Side {
        match self {
            Self::Text {
                text, is_code: false, ..
            } => {
                let mut characters = text.chars();
                let character = if is_start {
                    characters.next()
                } else {
                    characters.next_back()
                };
                character.map_or(Side::Unsure, Side::of)
            }
            Self::Text { .. } | Self::Node(_) => Side::Punctuation,
        }
    }
}

/// A mark that has begun and goes on.
struct Open<'a> {
    mark: Mark,
    /// How it is written; else as an element of HTML.
    sign: Option<Sign>,
    outside: Parent<'a>,
    inside: Parent<'a>,
    /// The first piece behind it.
    end: usize,
}

/// The pieces of a line.
fn pieces(units: &[Unit]) -> Vec<Piece<'_>> {
    let mut pieces: Vec<Piece<'_>> = Vec::new();
    for run in runs(units) {
        match run {
            Run::Text(text, marks) => {
                let (shown, is_code_now) = (shown(marks), marks.contains_key("code"));
                match pieces.last_mut() {
                    Some(Piece::Text {
                        text: before,
                        is_code,
                        marks,
                    }) if *marks == shown && *is_code == is_code_now => {
                        before.push_str(&text);
                    }
                    _ => pieces.push(Piece::Text {
                        text,
                        is_code: is_code_now,
                        marks: shown,
                    }),
                }
            }
            Run::Node(node) => pieces.push(Piece::Node(node)),
            Run::Other => {}
        }
    }
    pieces
}

/// For each piece and each of its marks the first piece that has not got it any more.
fn ends(pieces: &[Piece<'_>]) -> Vec<Vec<usize>> {
    let mut ends: Vec<Vec<usize>> = Vec::with_capacity(pieces.len());
    let mut behind: (&[Mark], Vec<usize>) = (&[], Vec::new());
    for (at, piece) in pieces.iter().enumerate().rev() {
        let end = |mark: &Mark| {
            let same = behind.0.iter().position(|other| other == mark);
            same.and_then(|same| behind.1.get(same).copied())
                .unwrap_or(at + 1)
        };
        let of_piece: Vec<_> = piece.marks().iter().map(end).collect();
        behind = (piece.marks(), of_piece.clone());
        ends.push(of_piece);
    }
    ends.reverse();
    ends
}

impl<'a> Tree<'a> {
    /// HTML within a line.
    pub(super) fn html(&self, parent: Parent<'a>, html: &str) {
        self.add(parent, NodeValue::HtmlInline(html.replace('|', "&#124;")));
    }

    pub(super) fn image(&self, parent: Parent<'a>, node: &Node) {
        let text = |name: &str| {
            node.attributes
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let image = self.add(
            parent,
            NodeValue::Image(Box::new(NodeLink {
                url: address(
                    Some(text("src"))
                        .filter(|address| html::shows_safely(address))
                        .unwrap_or_default(),
                ),
                title: title(text("title")),
            })),
        );
        if !text("alt").is_empty() {
            let alt = text("alt").replace(['\n', '\r'], " ");
            self.add(image, NodeValue::Text(alt.into()));
        }
    }

    pub(super) fn inline(&self, parent: Parent<'a>, units: &[Unit], place: Place) {
        // Spaces at the end of a line are none.
        let is_space =
            |unit: &&Unit| matches!(unit, Unit::Character(' ', marks) if !marks.contains_key("code"));
        let spaces = units.iter().rev().take_while(is_space).count();
        let pieces = pieces(units.get(..units.len() - spaces).unwrap_or_default());
        let ends = ends(&pieces);
        let mut open: Vec<Open<'a>> = Vec::new();
        for (at, piece) in pieces.iter().enumerate() {
            // What goes on is not closed in between.
            let stays = open
                .iter()
                .take_while(|open| piece.marks().contains(&open.mark))
                .count();
            let closed = self.close(&mut open, stays);
            let mut new: Vec<(Mark, usize)> = (piece.marks().iter().cloned())
                .zip(ends.get(at).cloned().unwrap_or_default())
                .filter(|(mark, _)| open.iter().all(|open| open.mark != *mark))
                .collect();
            // The parts of a link would be several links, and what is longest is around the others.
            new.sort_by_key(|(mark, end)| (mark.link.is_none(), usize::MAX - end, mark.rank));
            let most = open.last().map_or(pieces.len(), |open| open.end);
            for (_, end) in &mut new {
                *end = (*end).min(most);
            }
            let signs = signs(&pieces, at, &open, &new, &closed);
            for ((mark, end), sign) in new.into_iter().zip(signs) {
                let outside = innermost(parent, &open);
                let inside = match (&mark.link, sign) {
                    (Some(link), _) => self.add(outside, NodeValue::Link(Box::new(link.clone()))),
                    (None, Some(sign)) => self.add(outside, sign.value()),
                    (None, None) => {
                        self.html(outside, &mark.tag.0);
                        outside
                    }
                };
                open.push(Open {
                    mark,
                    sign,
                    outside,
                    inside,
                    end,
                });
            }
            let inside = innermost(parent, &open);
            match piece {
                Piece::Text {
                    text, is_code: true, ..
                } => self.code(inside, text, place),
                Piece::Text { text, .. } => self.text(inside, text, place),
                Piece::Node(node) => self.inline_node(inside, node, place),
            }
        }
        self.close(&mut open, 0);
    }

    /// Ends all marks but the outermost ones. Gives the signs with which they end, if they are signs.
    fn close(&self, open: &mut Vec<Open<'a>>, stays: usize) -> Vec<Option<Sign>> {
        let mut closed = Vec::new();
        for open in open.drain(stays.min(open.len())..).rev() {
            closed.push(open.sign);
            if open.sign.is_none() && open.mark.link.is_none() {
                self.html(open.outside, &format!("</{}>", open.mark.tag.1));
            }
        }
        closed
    }

    fn code(&self, parent: Parent<'a>, text: &str, place: Place) {
        let literal = text.replace(['\n', '\r'], " ");
        // A cell ends at a stroke, also in code, unless there is one of these before it.
        if place == Place::Line && literal.contains("\\|") {
            self.html(parent, "<code>");
            self.add(parent, NodeValue::Text(literal.into()));
            return self.html(parent, "</code>");
        }
        let num_backticks = 0;
        self.add(
            parent,
            NodeValue::Code(NodeCode {
                num_backticks,
                literal,
            }),
        );
    }

    fn text(&self, parent: Parent<'a>, text: &str, place: Place) {
        for (at, line) in text.split('\n').enumerate() {
            if at > 0 {
                self.line_break(parent, place);
            }
            // Spaces at the beginning of a line would be none, or make code of it.
            let is_first = parent.last_child().is_none();
            let line = match line.strip_prefix([' ', '\t']) {
                Some(rest) if is_first || at > 0 => {
                    self.add(parent, NodeValue::Raw("&#32;".to_owned()));
                    rest
                }
                _ => line,
            };
            if !line.is_empty() {
                self.add(parent, NodeValue::Text(line.to_owned().into()));
            }
        }
    }

    fn line_break(&self, parent: Parent<'a>, place: Place) {
        match place {
            Place::Paragraph => drop(self.add(parent, NodeValue::LineBreak)),
            Place::Line => self.html(parent, "<br>"),
        }
    }

    fn inline_node(&self, parent: Parent<'a>, node: &Node, place: Place) {
        match node.name.as_str() {
            "hardBreak" => self.line_break(parent, place),
            "image" => self.image(parent, node),
            _ => self.html(parent, &html_in_line(node)),
        }
    }
}

fn innermost<'a>(parent: Parent<'a>, open: &[Open<'a>]) -> Parent<'a> {
    open.last().map_or(parent, |open| open.inside)
}

/// How marks that begin at a piece, the outermost first, are written: with a sign where that is read as one.
fn signs(
    pieces: &[Piece<'_>],
    at: usize,
    open: &[Open<'_>],
    new: &[(Mark, usize)],
    closed: &[Option<Sign>],
) -> Vec<Option<Sign>> {
    let before = match at.checked_sub(1).and_then(|before| pieces.get(before)) {
        Some(before) => before.side(false),
        None => Side::Space,
    };
    let mut first = pieces.get(at).map_or(Side::Unsure, |piece| piece.side(true));
    let mut signs: Vec<Option<Sign>> = Vec::new();
    for (depth, (mark, end)) in new.iter().enumerate().rev() {
        let begins = |sign: Sign| {
            // Beside a sign of another kind, that one is what is inside.
            let first = match signs.iter().flatten().all(|within| within.is_like(sign)) {
                true => first,
                false => Side::Punctuation,
            };
            // Signs that are alike would be read as one longer sign, and one within another might end that.
            let is_parted = new.iter().take(depth).any(|(mark, _)| mark.sign.is_none());
            let meets = !is_parted && closed.iter().flatten().any(|closed| closed.is_like(sign));
            let is_within = open
                .iter()
                .any(|open| open.sign.is_some_and(|open| open.is_like(sign)));
            let is_alone = depth == 0 && closed.is_empty();
            let outside = if is_alone { before } else { Side::Punctuation };
            Side::reads(before, first) && !meets && !(is_within && Side::could_end(outside, first))
        };
        let ends = |sign: Sign| {
            let last = pieces.get(end - 1);
            let is_around = |other: &Mark| {
                open.iter().any(|open| open.mark == *other)
                    || new.iter().take(depth + 1).any(|(new, _)| new == other)
            };
            // What ends within it is written by then, or it is not known how it will be.
            let within: Vec<_> = last
                .map_or(&[][..], Piece::marks)
                .iter()
                .filter(|mark| !is_around(mark))
                .collect();
            let is_known = within.iter().all(|mark| {
                let known = new.iter().skip(depth + 1).zip(signs.iter().rev());
                known.into_iter().any(|((new, _), written)| {
                    new == *mark && written.is_some_and(|written| written.is_like(sign))
                })
            });
            let inside = match (is_known, last) {
                (true, Some(last)) => last.side(false),
                _ => Side::Unsure,
            };
            let behind = match pieces.get(*end) {
                Some(behind) => {
                    let begin = || behind.marks().iter().filter(|mark| !is_around(mark));
                    if begin().next().is_none() {
                        behind.side(true)
                    } else if begin().any(|mark| mark.sign == Some(Sign::Strike)) {
                        // Those signs are looked through for what is behind them.
                        Side::Unsure
                    } else {
                        Side::Punctuation
                    }
                }
                None => Side::Space,
            };
            Side::reads(behind, inside)
        };
        let sign = mark.sign.filter(|sign| begins(*sign) && ends(*sign));
        if !sign.is_some_and(|sign| sign.is_like(Sign::Strong)) {
            first = Side::Punctuation;
        }
        signs.push(sign);
    }
    signs.reverse();
    signs
}
