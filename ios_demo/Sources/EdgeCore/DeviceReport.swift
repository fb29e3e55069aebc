/// What the device did with one conformance case. Times in milliseconds.
public struct CaseReport: Sendable {
    public let id: String
    public let promptTokenIds: [Int]
    public let decision: Decision
    public let markerBias: Double
    /// Whether route, reason and answer are the quantized reference's.
    public let matches: Bool
    public let prefillMs: Double
    public let decodeMs: Double

    var fields: Json {
        .object([
            "id": .string(id),
            "prompt_token_ids": .array(promptTokenIds.map { .number(Double($0)) }),
            "token_ids": .array(decision.tokenIds.map { .number(Double($0)) }),
            "route": .string(decision.route.rawValue),
            "reason": .string(decision.reason),
            "text": .string(decision.text),
            "answer": decision.answer.map(Json.string) ?? .null,
            "marker_margin": .number(decision.markerMargin),
            "marker_bias": .number(markerBias),
            "outcome": .string(matches ? "MATCH" : "MISMATCH"),
            "prefill_ms": .number(prefillMs),
            "decode_ms": .number(decodeMs),
        ])
    }
}

/// The phone it ran on.
public struct DeviceFacts: Sendable {
    public let model: String
    public let os: String

    public init(model: String, os: String) {
        self.model = model
        self.os = os
    }
}

/// The app it ran in.
public struct AppFacts: Sendable {
    public let name: String
    public let version: String

    public init(name: String, version: String) {
        self.name = name
        self.version = version
    }
}

/// What `edgekit verify --device-report` reads: which bundle, on which device, and every case's decision.
public struct DeviceReport: Sendable {
    public let manifest: BundleManifest
    public let device: DeviceFacts
    public let app: AppFacts
    public let runtime: RuntimeFacts
    public let cases: [CaseReport]

    public var matched: Int { cases.filter(\.matches).count }
    public var mismatched: Int { cases.count - matched }

    /// The report's JSON text.
    public func json() -> String {
        let report = Json.object([
            "format": .string("edgekit-device-report"),
            "version": .number(1),
            "bundle": .object([
                "manifest_sha256": .string(manifest.sha256),
                "target": .string(manifest.target),
                "recipe": .string(manifest.recipeName),
            ]),
            "device": .object(["model": .string(device.model), "os": .string(device.os)]),
            "app": .object(["name": .string(app.name), "version": .string(app.version)]),
            "runtime": .object(["name": .string(runtime.name), "version": .string(runtime.version)]),
            "cases": .array(cases.map(\.fields)),
            "matched": .number(Double(matched)),
            "mismatched": .number(Double(mismatched)),
        ])
        return report.write() + "\n"
    }
}
