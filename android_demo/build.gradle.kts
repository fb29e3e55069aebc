// The versions of all plugins, so that all modules see one Kotlin. AGP 9 brings Kotlin for Android itself.
plugins {
    alias(libs.plugins.android.application) apply false
    alias(libs.plugins.android.library) apply false
    alias(libs.plugins.kotlin.jvm) apply false
    alias(libs.plugins.kotlin.compose) apply false
}

subprojects {
    group = "ai.edgekit"
    version = "0.1.0"
}
