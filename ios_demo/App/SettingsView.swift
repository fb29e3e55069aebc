import EdgeCore
import SwiftUI

/// Bundle, cloud and budget.
struct SettingsView: View {
    private static let most = "At most %ld %% of the last 20 prompts leave this phone."
    @Bindable var model: AppModel

    var body: some View {
        @Bindable var settings = model.settings
        NavigationStack {
            Form {
                Section("Bundle") {
                    ForEach(model.bundles, id: \.self) { folder in
                        Button(folder.lastPathComponent) { Task { await model.open(folder) } }
                            .disabled(model.isBusy)
                    }
                    TextField("https://host/bundle", text: $model.address).keyboardType(.URL)
                    Button("Download") { Task { await model.download() } }
                        .disabled(model.isBusy || model.address.isEmpty)
                    if let progress = model.progress {
                        Text("\(Int(progress * 100)) %")
                        Button("Stop the download") { model.stop() }
                    }
                }
                .autocorrectionDisabled()
                .textInputAutocapitalization(.never)
                Section("Cloud") {
                    TextField("Model", text: $settings.cloudModel)
                    TextField("https://host/v1", text: $settings.cloudUrl).keyboardType(.URL)
                    SecureField("Key (kept in the Keychain)", text: $settings.key)
                    Picker("Prompts to this server", selection: $settings.consent) {
                        Text("Ask each time").tag(Consent.ask)
                        Text("Always send").tag(Consent.always)
                        Text("Never send").tag(Consent.never)
                    }
                }
                .autocorrectionDisabled()
                .textInputAutocapitalization(.never)
                Section("Budget") {
                    Slider(value: $settings.share, in: 0...1, step: 0.05) { Text("Share") }
                    Text(String(format: Self.most.localized, Int((settings.share * 100).rounded())))
                }
                Section {
                    Button("Apply") { Task { await model.apply() } }
                        .disabled(model.isBusy)
                } footer: {
                    Text(model.status)
                }
            }
            .navigationTitle("Settings")
        }
    }
}
