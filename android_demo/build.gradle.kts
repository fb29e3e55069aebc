// The versions of all plugins, so that both modules see one Kotlin. AGP 9 brings Kotlin for Android itself.
plugins {
    alias(libs.plugins.android.application) apply false
    alias(libs.plugins.kotlin.jvm) apply false
    alias(libs.plugins.kotlin.compose) apply false
}
