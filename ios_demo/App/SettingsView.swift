import SwiftUI

/// Bundle, cloud and budget.
struct SettingsView: View {
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
                }
                Section("Cloud") {
                    TextField("Model", text: $settings.cloudModel)
                    TextField("https://host/v1", text: $settings.cloudUrl).keyboardType(.URL)
                    SecureField("Key (kept in memory only)", text: $settings.key)
                }
                .autocorrectionDisabled()
                .textInputAutocapitalization(.never)
                Section("Budget") {
                    Slider(value: $settings.share, in: 0...1, step: 0.05) { Text("Share") }
                    Text("At most \(Int((settings.share * 100).rounded())) % of the last 20 prompts leave this phone.")
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
