/// How often prompts may go to the cloud: at most `share` of any `window` prompts in a row.
///
/// `history` says for each of the last prompts whether it left the phone, the newest last; keep it across
/// starts of the app, or the budget begins anew.
public struct CloudBudget: Sendable {
    public let share: Double
    public let window: Int
    public private(set) var history: [Bool]

    public init(share: Double, window: Int = 20, history: [Bool] = []) throws {
        if !(0...1).contains(share) || window < 1 {
            throw EdgeError("bad budget: \(share) of \(window) prompts. Give a share of 0 to 1 and a window from 1.")
        }
        self.share = share
        self.window = window
        self.history = history.suffix(window - 1)
    }

    /// 6 of any 20 prompts.
    public static let usual = CloudBudget()

    private init() {
        (share, window, history) = (0.3, 20, [])
    }

    /// Calls in all that `window` prompts may make. A share of 0.3 of 10 is 3 although 0.3 * 10 may fall short.
    public var allowed: Int { Int(share * Double(window) + 1e-9) }

    /// How many more prompts may go to the cloud now.
    public var left: Int { max(0, allowed - history.count { $0 }) }

    /// Notes one prompt; `left` counts it from now on.
    public mutating func record(_ leftThePhone: Bool) {
        history = (history + [leftThePhone]).suffix(window - 1)
    }
}
