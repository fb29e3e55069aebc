plugins {
    alias(libs.plugins.android.application)
    alias(libs.plugins.kotlin.compose)
}

android {
    namespace = "ai.edgekit.demo"
    compileSdk = 37

    defaultConfig {
        applicationId = "ai.edgekit.demo"
        minSdk = 27 // what :onnxruntime needs
        targetSdk = 36
        versionCode = 1
        versionName = "0.1"
        ndk.abiFilters += listOf("arm64-v8a", "x86_64") // what both runtimes ship
    }

    buildFeatures {
        compose = true
        buildConfig = true
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }

    androidResources.noCompress += listOf("onnx", "onnx_data", "data", "pte") // packed already; copied out faster
    packaging.jniLibs.pickFirsts += "**/libc++_shared.so" // both runtimes bring it
}

dependencies {
    implementation(project(":onnxruntime"))
    implementation(project(":executorch"))
    implementation(platform(libs.compose.bom))
    implementation(libs.compose.material3)
    implementation(libs.activity.compose)
}
