/// Which side answers.
public enum Route: String, Sendable {
    case local, cloud
}

/// What the policy did with one prompt.
///
/// `margins` holds the marker's margin at each step at which it was decided whether to call. `markerMargin` is the
/// largest of them, the bias that it decided with included: above 0 it called, and near 0 it hesitated.
public struct Decision: Sendable, Equatable {
    public var route: Route
    public var reason: String
    public var text: String
    public var answer: String?
    public var tokenIds: [Int]
    public var markerMargin = -Double.infinity
    public var promptTokens = 0
    public var margins: [MarkerMargin] = []

    /// True if the prompt goes to the cloud.
    public var called: Bool { route == .cloud }

    /// Whether `other` is the same decision: route, reason and answer. Its tokens may differ.
    public func agrees(with other: Decision) -> Bool {
        let isSameAnswer =
            switch (answer, other.answer) {
            case (nil, nil): true
            case (let mine?, let theirs?): mine.isIdentical(to: theirs)
            default: false
            }
        return route == other.route && reason == other.reason && isSameAnswer
    }
}

/// The routing-token decoder: tokens in, visible text and one decision out.
///
/// A call for the cloud is one of the marker's token id sequences, generated whole, with nothing but white
/// space before it on its line and not inside an answer. The same text spelled with other tokens, quoted in
/// the middle of a line, or cut off by the length limit is not a call. The marker's text is never shown.
///
/// The answer is what stands between the first answer delimiters outside a thought. Within <think> and </think>, and
/// after a <think> that nothing closes, the answer's delimiters are text like any other: a policy may speak of them.
/// The marker is a call there too, so that a policy need not think to the end before it asks.
public struct RoutingDecoder {
    private let spec: RoutingSpec
    private let vocabulary: Vocabulary
    private let marker: Text
    private let ends: [Passage: [(mark: Text, leadsTo: Passage)]]
    public private(set) var tokenIds: [Int] = []
    public private(set) var reason: String?
    private var utf8 = Utf8Decoder()
    private var shown: Text = []
    private var held: Text = []
    private var passage: Passage
    private var read: Text = []
    private var lineIsBlank = true
    private var answer: String?
    private var lineStarts: [Bool] = []

    private enum Passage {
        case text, thought, answer
    }

    public init(spec: RoutingSpec, vocabulary: Vocabulary) {
        self.spec = spec
        self.vocabulary = vocabulary
        marker = spec.marker.text.text
        ends = [  // from each passage: the delimiters that end it, and where they lead
            .text: [(spec.answer.open.text, .answer), (RoutingSpec.thoughtOpen.text, .thought)],
            .thought: [(RoutingSpec.thoughtClose.text, .text)],
            .answer: [(spec.answer.close.text, .text)],
        ]
        passage = spec.beginsInThought ? .thought : .text
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
        return show(Array(fresh.prefix(follow(fresh))), final: isDone)
    }

    /// The decision; call once the stream has ended, by itself or by the length limit.
    ///
    /// Text held back because the limit cut it off where the marker may have begun is not shown.
    public mutating func finish() -> Decision {
        if !isDone {
            _ = show(utf8.decode([], final: true), final: false)
        }
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
    public var markerCounts: Bool { lineIsBlank && passage != .answer && !utf8.isInsideCharacter }

    /// How a marker could go on: the ids that may come next, each with the shortest rest of a marker after it.
    ///
    /// A marker may begin where it counts, and goes on where the last tokens are its beginning. One that does not fit
    /// in the `room` tokens left is none.
    func openMarkers(room: Int) -> [OpenMarker] {
        var found: [OpenMarker] = []
        for ids in spec.marker.tokenIds {
            for begun in 0...min(ids.count - 1, tokenIds.count) {
                let start = tokenIds.count - begun
                if ids.count - begun > room || !(begun == 0 ? markerCounts : lineStarts[start]) { continue }
                if !tokenIds[start...].elementsEqual(ids.prefix(begun)) { continue }
                let open = OpenMarker(next: ids[begun], rest: Array(ids.dropFirst(begun + 1)))
                if let same = found.firstIndex(where: { $0.next == open.next }) {
                    if open.rest.count <= found[same].rest.count { found[same] = open }
                } else {
                    found.append(open)
                }
            }
        }
        return found
    }

    private func completesMarker() -> Bool {
        spec.marker.tokenIds.contains { ids in
            let start = tokenIds.count - ids.count
            return start >= 0 && tokenIds[start...].elementsEqual(ids) && lineStarts[start]
        }
    }

    /// Reads `fresh` up to the answer's end, if it holds that, else all of it; returns how many characters.
    private mutating func follow(_ fresh: Text) -> Int {
        for (index, character) in fresh.enumerated() {
            lineIsBlank = character == "\n" || (lineIsBlank && character.isSpace)
            read.append(character)
            guard let end = ends[passage]?.first(where: { read.suffix($0.mark.count).elementsEqual($0.mark) }) else {
                continue
            }
            if passage == .answer {
                var inside = Text(read.dropLast(end.mark.count))
                while inside.firstIndex(of: marker) != nil {
                    inside = removingMarkers(inside)
                }
                answer = String(inside.stripped())
                reason = "answer"
                return index + 1
            }
            passage = end.leadsTo
            read = []
        }
        return fresh.count
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

/// How a marker could go on: the id that may come next, and what would still be missing after it.
struct OpenMarker {
    let next: Int
    let rest: [Int]
}
