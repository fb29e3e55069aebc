import Foundation

#if canImport(Security)
    import Security
#endif

/// Keeps the cloud's key in the system's Keychain, readable on this device only, after its first unlock.
enum KeyVault {
    #if canImport(Security)
        private static let item: [CFString: Any] = [
            kSecClass: kSecClassGenericPassword, kSecAttrService: "ai.edgekit.demo", kSecAttrAccount: "cloud-key",
        ]

        /// The key; empty if none is kept, or it cannot be read.
        static func read() -> String {
            var found: CFTypeRef?
            let asked = item.merging([kSecReturnData: true]) { $1 }
            guard SecItemCopyMatching(asked as CFDictionary, &found) == errSecSuccess, let data = found as? Data else {
                return ""
            }
            return String(decoding: data, as: UTF8.self)
        }

        /// Keeps `key` in the place of the last one; an empty one is forgotten.
        static func write(_ key: String) {
            SecItemDelete(item as CFDictionary)
            if key.isEmpty { return }
            let kept: [CFString: Any] = [
                kSecValueData: Data(key.utf8), kSecAttrAccessible: kSecAttrAccessibleAfterFirstUnlockThisDeviceOnly,
            ]
            SecItemAdd(item.merging(kept) { $1 } as CFDictionary, nil)
        }
    #else
        /// Without a Keychain nothing is kept.
        static func read() -> String { "" }

        static func write(_ key: String) {}
    #endif
}
