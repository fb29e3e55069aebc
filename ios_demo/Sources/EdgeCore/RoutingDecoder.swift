/// Which side answers.
public enum Route: String, Sendable {
    case local, cloud
}

/// What the policy did with one prompt.
///
/// `markerMargin` is the largest value, over the steps where a marker counts, of its first logit (bias
/// included) minus the best other logit: at or above 0 it called, and near 0 it hesitated.
public struct Decision: Sendable {
    public var route: Route
    public var reason: String
    public var text: String
    public var answer: String?
    public var tokenIds: [Int]
    public var markerMargin = -Double.infinity
    public var promptTokens = 0

    /// True if the prompt goes to the cloud.
    public var called: Bool { route == .cloud }
}

/// The routing-token decoder: tokens in, visible text and one decision out.
///
/// A call for the cloud is one of the marker's token id sequences, generated whole, with nothing but white
/// space before it on its line and not inside an answer. The same text spelled with other tokens, quoted in
/// the middle of a line, or cut off by the length limit is not a call. The marker's text is never shown.
public struct RoutingDecoder {
    private let spec: RoutingSpec
    private let vocabulary: Vocabulary
    private let marker: Text
    private let open: Text
    private let close: Text
    public private(set) var tokenIds: [Int] = []
    public private(set) var reason: String?
    private var utf8 = Utf8Decoder()
    private var shown: Text = []
    private var held: Text = []
    private var text: Text = []
    private var lineStarts: [Bool] = []

    public init(spec: RoutingSpec, vocabulary: Vocabulary) {
        self.spec = spec
        self.vocabulary = vocabulary
        marker = spec.marker.text.text
        open = spec.answer.open.text
        close = spec.answer.close.text
    }

    /// True once a stop token, the marker or a closed answer has ended the response.
    public var isDone: Bool { reason != nil }

    /// Takes one generated token; returns text now safe to show. Tokens after the end are ignored.
    public mutating func push(_ id: Int) -> String {
        if isDone { return "" }
        lineStarts.append(markerCounts)
        tokenIds.append(id)
        if completesMarker() {
            reason = "marker"
            held = []
            return ""
        }
        if spec.stopTokenIds.contains(id) {
            reason = "stop"
            return show(utf8.decode([], final: true), final: true)
        }
        let fresh = utf8.decode(vocabulary[id])
        let surplus = closeAnswer(fresh)
        return show(Array(fresh.dropLast(surplus)), final: isDone)
    }

    /// The decision; call once the stream has ended, by itself or by the length limit.
    ///
    /// Text held back because the limit cut it off where the marker may have begun is not shown.
    public mutating func finish() -> Decision {
        if !isDone {
            _ = show(utf8.decode([], final: true), final: false)
        }
        let answer = reason == "marker" ? nil : self.answer()
        let route: Route
        let why: String
        if reason == "marker" {
            (route, why) = (.cloud, "marker")
        } else if answer != nil {
            (route, why) = (.local, "answer")
        } else {
            (route, why) = (spec.onNoAnswer, "no_answer")
        }
        return Decision(route: route, reason: why, text: String(shown), answer: answer, tokenIds: tokenIds)
    }

    /// Whether a marker beginning with the next token is a call: at a line's start, outside an answer.
    ///
    /// Half a character is already text.
    public var markerCounts: Bool {
        let isInside = (text.lastIndex(of: open) ?? -1) > (text.lastIndex(of: close) ?? -1)
        let line = text.lastIndex(of: "\n").map { text[($0 + 1)...] } ?? text[...]
        return !isInside && !utf8.isInsideCharacter && line.allSatisfy(\.isSpace)
    }

    private func completesMarker() -> Bool {
        spec.marker.tokenIds.contains { ids in
            let start = tokenIds.count - ids.count
            return start >= 0 && tokenIds[start...].elementsEqual(ids) && lineStarts[start]
        }
    }

    /// Appends `fresh`; if it closes the answer, ends there and returns how many characters came after.
    private mutating func closeAnswer(_ fresh: Text) -> Int {
        text += fresh
        guard let opened = text.firstIndex(of: open),
            let closed = text.firstIndex(of: close, from: opened + open.count)
        else { return 0 }
        reason = "answer"
        let surplus = text.count - (closed + close.count)
        text.removeLast(surplus)
        return surplus
    }

    private func answer() -> String? {
        guard let opened = text.firstIndex(of: open) else { return nil }
        var inside = Array(text[(opened + open.count)...])
        guard let closed = inside.firstIndex(of: close) else { return nil }
        inside.removeLast(inside.count - closed)
        while inside.firstIndex(of: marker) != nil {
            inside = removingMarkers(inside)
        }
        return String(inside.stripped())
    }

    /// Without the marker's text, each occurrence from the left, as Python's `str.replace`.
    private func removingMarkers(_ text: Text) -> Text {
        var out: Text = []
        var at = 0
        while let found = text.firstIndex(of: marker, from: at) {
            out += text[at..<found]
            at = found + marker.count
        }
        return out + text[at...]
    }

    /// Adds `fresh` to what is shown, holding back a tail that may become the marker's text.
    ///
    /// A marker's text is dropped once whole. `final` shows the tail: nothing can complete it.
    private mutating func show(_ fresh: Text, final: Bool) -> String {
        let before = shown.count
        for character in fresh {
            held.append(character)
            if endOfAll(marker.count).elementsEqual(marker) {
                held.removeLast(Swift.min(marker.count, held.count))
            }
            let tail = Swift.min(markerTail(endOfAll(marker.count)), held.count)
            shown += held.dropLast(tail)
            held.removeFirst(held.count - tail)
        }
        if final {
            shown += held
            held = []
        }
        return String(shown[before...])
    }

    /// The last `count` characters of what is shown and held, or all of it.
    private func endOfAll(_ count: Int) -> Text {
        Array(shown.suffix(Swift.max(0, count - held.count)) + held.suffix(count))
    }

    /// Length of the longest end of `text` that begins the marker's text without completing it.
    private func markerTail(_ text: Text) -> Int {
        for length in stride(from: Swift.min(text.count, marker.count - 1), to: 0, by: -1)
        where text.suffix(length).elementsEqual(marker.prefix(length)) {
            return length
        }
        return 0
    }
}
