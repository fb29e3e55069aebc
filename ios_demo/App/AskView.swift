import EdgeCore
import SwiftUI
import UIKit

/// The conversation so far: each prompt, its answer as it grows, which side answered and why.
struct AskView: View {
    @Bindable var model: AppModel

    var body: some View {
        NavigationStack {
            Form {
                Section {
                    TextField("Prompt", text: $model.prompt, axis: .vertical)
                        .autocorrectionDisabled()
                        .textInputAutocapitalization(.never)
                    Button(model.isBusy ? "Working" : "Ask") { Task { await model.ask() } }
                        .disabled(model.isBusy || model.bundle == nil)
                    if model.isBusy { Button("Stop") { model.stop() } }
                } footer: {
                    Text(model.status)
                }
                ForEach(model.turns.reversed(), id: \.id) { TurnSection(turn: $0) }
                Section("Budget") {
                    LabeledContent("Calls left", value: callsLeft)
                }
            }
            .navigationTitle("edgekit")
            .alert("Send this prompt to the cloud?", isPresented: isAsked, presenting: model.consent) { _ in
                Button("Send") { model.reply(true) }
                Button("Always to this server") { model.reply(true, always: true) }
                Button("Keep it here", role: .cancel) { model.reply(false) }
            } message: { request in
                Text(words(of: request.request))
            }
        }
    }

    private var callsLeft: String {
        let budget = model.budget
        return String(format: "%ld of %ld in %ld prompts".localized, budget.left, budget.allowed, budget.window)
    }

    /// As they are: a text that is no literal is neither looked up nor taken for Markdown.
    private func words(of request: CloudRequest) -> String {
        "\(request.prompt)\n\n" + "It goes to".localized + " \(request.server) (\(request.model))."
    }

    private var isAsked: Binding<Bool> {
        // The buttons are the only way out, and SwiftUI may clear this before it runs them.
        Binding(get: { model.consent != nil }, set: { _ in })
    }
}

/// One prompt and what came of it; VoiceOver reads an answer as it grows.
private struct TurnSection: View {
    let turn: Turn

    var body: some View {
        Section(turn.prompt) {
            if !turn.shown.isEmpty {
                Text(AttributedString.of(turn.shown)).monospaced().textSelection(.enabled)
                    .accessibilityLabel("Answer".localized + ": \(turn.shown)")
                    .accessibilityAddTraits(.updatesFrequently)
            }
            if let failure = turn.failure { Text(failure).foregroundStyle(.red) }
            if let answer = turn.answer { AnswerRows(answer: answer, megabytes: turn.megabytes) }
        }
    }
}

/// Which side answered, why, and how long it took.
private struct AnswerRows: View {
    let answer: HybridAnswer
    let megabytes: Int?

    var body: some View {
        LabeledContent("Side", value: answer.route == .local ? "this phone".localized : "the cloud".localized)
        LabeledContent("Why", value: why.localized)
        if let text = answer.answer { LabeledContent("Answer", value: text) }
        LabeledContent("On the phone", value: milliseconds(answer.localMs))
        if let cloudMs = answer.cloudMs { LabeledContent("In the cloud", value: milliseconds(cloudMs)) }
        LabeledContent("Tokens", value: "\(answer.promptTokens) + \(answer.generatedTokens)")
        LabeledContent("Tokens a second", value: speed)
        if let megabytes { LabeledContent("Memory left", value: "\(megabytes) MB") }
        if answer.markerMargin.isFinite {
            let margin = answer.markerMargin.formatted(.number.precision(.fractionLength(2)))
            LabeledContent("Marker's margin", value: margin)
        }
        if let notice = answer.notice { Text(notice).foregroundStyle(.secondary) }
        Button("Copy") { UIPasteboard.general.string = answer.text }
    }

    private var why: String {
        switch answer.reason {
        case "answer": "it gave an answer"
        case "marker": "the policy asked for help"
        case "no_answer": "the policy gave no answer"
        case "budget": "the budget is spent"
        case "offline": "the cloud could not be had"
        case "consent": "you kept the prompt here"
        case "too_long": "the prompt is too long for the phone's model"
        case "device_failed": "the phone's model failed"
        default: answer.reason
        }
    }

    private var speed: String {
        let second = answer.localMs > 0 ? 1000 * Double(answer.generatedTokens) / answer.localMs : 0
        return second.formatted(.number.precision(.fractionLength(1)))
    }

    private func milliseconds(_ value: Double) -> String {
        "\(Int(value.rounded())) ms"
    }
}

extension String {
    /// As the app's string catalog has it.
    var localized: String { NSLocalizedString(self, comment: "") }
}

extension AttributedString {
    /// With what of Markdown stands within a line drawn, where the system can; sums keep their stars.
    static func of(_ text: String) -> AttributedString {
        #if canImport(Darwin)
            let whole = AttributedString.MarkdownParsingOptions(interpretedSyntax: .inlineOnlyPreservingWhitespace)
            let isMarked = text.contains("**") || text.contains("`")
            if isMarked, let marked = try? AttributedString(markdown: text, options: whole) { return marked }
        #endif
        return AttributedString(text)
    }
}
