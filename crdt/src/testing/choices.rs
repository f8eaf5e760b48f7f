//! Updates made of the choices of a fuzzer: each byte decides about the next thing in it.

use crate::encoding::Write as _;
use crate::state_vector::{ClientId, StateVector};

/// Bytes as choices; 0 when there are no more.
pub(super) struct Choices<'a> {
    pub(super) data: &'a [u8],
    pub(super) position: usize,
}

impl Choices<'_> {
    pub(super) fn byte(&mut self) -> u8 {
        let byte = self.data.get(self.position).copied().unwrap_or(0);
        self.position += 1;
        byte
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.position >= self.data.len()
    }

    pub(super) fn below(&mut self, bound: u8) -> u64 {
        u64::from(self.byte() % bound)
    }

    pub(super) fn update(&mut self, known: &StateVector) -> Vec<u8> {
        let mut out = Vec::new();
        let sections = self.below(4);
        let first = self.below(5);
        out.put_number(sections);
        for section in 0..sections {
            // Highest first, or not.
            let client = if self.position.is_multiple_of(2) {
                (first + section) % 5
            } else {
                (first + 5 - section) % 5
            };
            let count = 1 + self.below(4);
            out.put_number(count);
            out.put_number(client);
            let clock = u64::from(known.get(ClientId(client)));
            out.put_number(match self.below(8) {
                0 => clock.saturating_sub(1),
                1 => clock.saturating_sub(4),
                2 => 0,
                3 => clock + 1,
                _ => clock,
            });
            for _ in 0..count {
                self.structure(&mut out, known);
            }
        }
        let clients = self.below(3);
        out.put_number(clients);
        let first = self.below(5);
        for client in 0..clients {
            out.put_number((first + client) % 5);
            let ranges = 1 + self.below(2);
            out.put_number(ranges);
            for _ in 0..ranges {
                let start = self.below(40);
                out.put_number(start);
                out.put_number(1 + self.below(6));
            }
        }
        out
    }

    fn id(&mut self, out: &mut Vec<u8>, known: &StateVector) {
        let client = self.below(5);
        let clock = known.get(ClientId(client));
        out.put_number(client);
        // Mostly something known, sometimes something of this update or the future.
        let reach = clock + u32::from(self.byte() % 6);
        out.put_number(u64::from(u32::from(self.byte()) * (reach.max(1)) / 256));
    }

    fn structure(&mut self, out: &mut Vec<u8>, known: &StateVector) {
        let choice = self.byte();
        let kind = [4u8, 7, 8, 4, 1, 0, 6, 5, 2, 3, 9, 4, 7, 8, 4, 7][usize::from(choice & 0x0f)];
        if kind == 0 {
            out.put_byte(0);
            out.put_number(1 + self.below(3));
            return;
        }
        let flags = match self.below(8) {
            0 => 0,
            1 | 2 => 0x40,
            3..=5 => 0x80,
            _ => 0xc0,
        };
        let key = if self.below(4) == 0 { 0x20 } else { 0 };
        out.put_byte(kind | flags | key);
        if flags & 0x80 != 0 {
            self.id(out, known);
        }
        if flags & 0x40 != 0 {
            self.id(out, known);
        }
        if flags == 0 {
            if self.below(2) == 0 {
                out.put_byte(1);
                out.put_string(["text", "map", "array", "xml", "u"][self.below(5) as usize]);
            } else {
                out.put_byte(0);
                self.id(out, known);
            }
            if key != 0 {
                out.put_string(["a", "b"][self.below(2) as usize]);
            }
        }
        self.content(out, kind);
    }

    fn content(&mut self, out: &mut Vec<u8>, kind: u8) {
        match kind {
            1 => out.put_number(1 + self.below(3)),
            2 => {
                let count = 1 + self.below(3);
                out.put_number(count);
                for _ in 0..count {
                    out.put_string(["1", "undefined", "{\"a\":[null]}"][self.below(3) as usize]);
                }
            }
            3 => out.put_buffer(&[1, 2]),
            4 => out.put_string(["a", "bc", "\u{1f600}", "x\u{1f600}y"][self.below(4) as usize]),
            5 => out.put_string("{\"i\":1}"),
            6 => {
                out.put_string(["bold", "em"][self.below(2) as usize]);
                out.put_string(["true", "null"][self.below(2) as usize]);
            }
            7 => match self.below(6) {
                3 => {
                    out.put_byte(3);
                    out.put_string("P");
                }
                5 => out.put_byte(6),
                other => out.put_byte(other as u8),
            },
            8 => {
                let count = 1 + self.below(3);
                out.put_number(count);
                for _ in 0..count {
                    match self.below(5) {
                        0 => out.put_byte(126),
                        1 => out.put_raw(&[117, 1, 120]),
                        2 => out.put_raw(&[118, 1, 1, b'k', 125, 1]),
                        3 => out.put_raw(&[122, 0, 0, 0, 0, 0, 0, 0, 9]),
                        _ => out.put_raw(&[119, 1, b'v']),
                    }
                }
            }
            _ => out.put_raw(&[1, b'g', 118, 0]),
        }
    }
}
