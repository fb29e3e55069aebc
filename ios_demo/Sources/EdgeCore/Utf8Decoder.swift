/// Bytes to code points as they come; what is no UTF-8 becomes U+FFFD as Python's codec "replace" does it
/// (one replacement for each longest beginning of a valid character).
struct Utf8Decoder {
    private var pending: [UInt8] = []
    private var missing = 0
    private var bounds: ClosedRange<UInt8> = 0x80...0xBF

    /// Whether a character has begun and is not complete.
    var isInsideCharacter: Bool { !pending.isEmpty }

    /// The code points completed by `bytes`; `final` ends the stream, and a character left incomplete is replaced.
    mutating func decode(_ bytes: [UInt8], final: Bool = false) -> Text {
        var out: Text = []
        for byte in bytes {
            take(byte, into: &out)
        }
        if final, !pending.isEmpty {
            replacePending(into: &out)
        }
        return out
    }

    private mutating func take(_ byte: UInt8, into out: inout Text) {
        if !pending.isEmpty {
            if bounds.contains(byte) {
                bounds = 0x80...0xBF
                pending.append(byte)
                missing -= 1
                if missing == 0 {
                    out.append(scalar())
                    pending = []
                }
                return
            }
            replacePending(into: &out)
        }
        begin(byte, into: &out)
    }

    /// First byte of a character; the second byte's bounds keep out overlong forms, surrogates and U+110000.
    private mutating func begin(_ byte: UInt8, into out: inout Text) {
        bounds = 0x80...0xBF
        switch byte {
        case 0x00...0x7F:
            out.append(Unicode.Scalar(byte))
            return
        case 0xC2...0xDF: missing = 1
        case 0xE0: (missing, bounds) = (2, 0xA0...0xBF)
        case 0xED: (missing, bounds) = (2, 0x80...0x9F)
        case 0xE1...0xEF: missing = 2
        case 0xF0: (missing, bounds) = (3, 0x90...0xBF)
        case 0xF1...0xF3: missing = 3
        case 0xF4: (missing, bounds) = (3, 0x80...0x8F)
        default:
            out.append("\u{FFFD}")
            return
        }
        pending = [byte]
    }

    private mutating func replacePending(into out: inout Text) {
        out.append("\u{FFFD}")
        pending = []
    }

    private func scalar() -> Unicode.Scalar {
        let lead = UInt32(pending[0]) & (0xFF >> UInt32(pending.count + 1))
        let value = pending.dropFirst().reduce(lead) { $0 << 6 | UInt32($1 & 0x3F) }
        return Unicode.Scalar(value) ?? "\u{FFFD}"
    }
}
