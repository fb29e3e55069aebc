/// What a foreign tokenizer may cost: how much longer it can make a text, and how far added tokens are looked for.
enum TokenizerBounds {
    private static let mostSteps = 32
    private static let mostGrowth = 64.0
    private static let longestAdded = 256
    /// Unicode's own largest expansions, in characters.
    private static let grows = ["NFD": 4.0, "NFKC": 18.0, "NFKD": 18.0]

    /// Refuses `file`, whose steps are known here, if it may make too much of a text.
    static func check(_ file: TokenizerFile) throws {
        let steps = try file.steps("normalizer") + file.steps("pre_tokenizer")
        if try steps.count > mostSteps || steps.reduce(1, { try $0 * growth($1) }) > mostGrowth {
            let why = "its steps make a text more than \(Int(mostGrowth)) times as long, or are more than \(mostSteps)"
            throw EdgeError(why, .unsupported)
        }
        let longest = file.addedTokens.map(\.content.unicodeScalars.count).max() ?? 0
        if longest > longestAdded {
            throw EdgeError("an added token has \(longest) characters, more than \(longestAdded)", .unsupported)
        }
    }

    private static func growth(_ step: JsonFields) throws -> Double {
        let type = try step.text("type")
        switch type {
        case "Prepend": return 1 + Double(try step.text("prepend").unicodeScalars.count) / 16
        case "Replace":
            let old = try step.fields("pattern").text("String").unicodeScalars.count
            return max(1, Double(try step.text("content").unicodeScalars.count) / Double(old))
        default: return grows[type] ?? 1
        }
    }
}
